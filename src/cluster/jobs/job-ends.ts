import type { JetStreamClient, JetStreamManager, JsMsg } from '@nats-io/jetstream';
import type { MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { messageOf } from '../../common/errors.js';
import { isConflict, mostBodyBytes } from '../nats/nats-connection.js';
import { CODE_HEADER, DIGEST_HEADER, LENGTH_HEADER, MODEL_HEADER, NODE_HEADER, REASON_HEADER } from './job-headers.js';
import { keyOf, openStreams, orMissing } from './job-streams.js';
import type { JobResult, JobWorkerOptions } from './job-worker.js';

const RETRY_MS = 500;
/** Longest pause in which nobody looks whether the worker is to stop. */
const PAUSE_MS = 100;
/** Characters of a reason. */
const MOST_REASON = 1_000;
/** Time for the server to say that a result is stored. */
const PUBLISH_MS = 5_000;

export interface JobEndsEnvironment {
  readonly connection: NatsConnection;
  readonly jetstream: JetStreamClient;
  readonly manager: JetStreamManager;
  readonly makeHeaders: () => MsgHdrs;
  readonly isStopped: () => boolean;
  readonly options: Pick<JobWorkerOptions, 'streams' | 'node' | 'log'>;
}

/** Ends jobs: with a result, or where somebody may look at them. Each end is stored once, since its subject takes one message. */
export class JobEnds {
  readonly #connection: NatsConnection;
  readonly #jetstream: JetStreamClient;
  readonly #manager: JetStreamManager;
  readonly #makeHeaders: () => MsgHdrs;
  readonly #isStopped: () => boolean;
  readonly #options: Pick<JobWorkerOptions, 'streams' | 'node' | 'log'>;
  #opening: Promise<void> | undefined;
  #wasInTrouble = false;

  constructor({ connection, jetstream, manager, makeHeaders, isStopped, options }: JobEndsEnvironment) {
    this.#connection = connection;
    this.#jetstream = jetstream;
    this.#manager = manager;
    this.#makeHeaders = makeHeaders;
    this.#isStopped = isStopped;
    this.#options = options;
  }

  /** Stores the result of a job, and takes the job out of the stream. */
  async store(message: JsMsg, { body, jsonBytes }: JobResult): Promise<'done' | 'again' | 'dead'> {
    const { streams, node } = this.#options;
    if (body.byteLength > mostBodyBytes(this.#connection)) {
      const reason = `the result has ${body.byteLength} bytes, and the server takes ${mostBodyBytes(this.#connection)}: put fewer rows in a job, or ask for fewer outputs`;
      return this.bury(message, 'FAILED_PRECONDITION', reason);
    }
    const headers = this.#headersOf(message, [MODEL_HEADER, DIGEST_HEADER]);
    headers.set(NODE_HEADER, node);
    if (jsonBytes !== undefined) headers.set(LENGTH_HEADER, String(jsonBytes));
    const isNew = await this.#publishOnce(`${streams.jobs}.results.${keyOf(message.subject)}`, body, headers);
    message.ack();
    return isNew ? 'done' : 'again';
  }

  /** Puts a job that cannot be done where somebody may look at it. */
  async bury(message: JsMsg, code: string, reason: string): Promise<'again' | 'dead'> {
    const { streams, log, node } = this.#options;
    if (await this.#hasResult(message)) {
      message.ack();
      return 'again';
    }
    const headers = this.#headersOf(message, [MODEL_HEADER, DIGEST_HEADER, LENGTH_HEADER]);
    headers.set(NODE_HEADER, node);
    headers.set(CODE_HEADER, code);
    // A header is one line.
    headers.set(REASON_HEADER, reason.replace(/\s+/g, ' ').slice(0, MOST_REASON));
    const key = keyOf(message.subject);
    const body = message.data.byteLength > mostBodyBytes(this.#connection) ? new Uint8Array() : message.data;
    await this.#publishOnce(`${streams.jobs}.dead.${key}`, body, headers);
    // Servers before 2.10.4 do not understand one with a reason.
    message.term();
    log('warn', { id: key, code, reason }, 'a job is dead');
    return 'dead';
  }

  /** What a job says, for its end. */
  #headersOf({ headers: own }: JsMsg, names: readonly string[]): MsgHdrs {
    const headers = this.#makeHeaders();
    for (const name of names) {
      const value = own?.get(name);
      if (value) headers.set(name, value);
    }
    return headers;
  }

  /** Another worker may have done the job, and its acknowledgement may have been lost. */
  async #hasResult(message: JsMsg): Promise<boolean> {
    const { streams } = this.#options;
    const subject = `${streams.jobs}.results.${keyOf(message.subject)}`;
    const found = await orMissing(this.#manager.streams.getMessage(streams.results, { last_by_subj: subject }));
    return found !== undefined && found !== null;
  }

  /** Makes the streams that somebody has deleted, for all that wait for it at once. Never rejects. */
  async #openAgain(): Promise<void> {
    this.#opening ??= openStreams(this.#connection, this.#options.streams)
      .then(() => undefined)
      .catch(() => undefined)
      .finally(() => (this.#opening = undefined));
    await this.#opening;
  }

  /**
   * Publishes a message, as often as it takes: what was done would be done again otherwise.
   *
   * @returns false when the subject has its message already.
   * @throws the error of the last try once the worker is to stop.
   */
  async #publishOnce(subject: string, body: Uint8Array, headers: MsgHdrs): Promise<boolean> {
    for (;;) {
      try {
        const expect = { lastSubjectSequence: 0 };
        await this.#jetstream.publish(subject, body, { headers, expect, timeout: PUBLISH_MS });
        this.#wasInTrouble = false;
        return true;
      } catch (cause) {
        if (isConflict(cause)) return false;
        if (this.#isStopped()) throw cause;
        if (!this.#wasInTrouble)
          this.#options.log('warn', { subject, reason: messageOf(cause) }, 'results cannot be stored; trying again');
        this.#wasInTrouble = true;
        await pauseUnless(this.#isStopped, RETRY_MS);
        await this.#openAgain();
      }
    }
  }
}

/** Waits: not longer than the worker goes on. @throws Error when it is to stop. */
export async function pauseUnless(isStopped: () => boolean, ms: number): Promise<void> {
  const end = performance.now() + ms;
  while (!isStopped() && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(PAUSE_MS, ms)));
  }
  if (isStopped()) throw new Error('the worker ends');
}
