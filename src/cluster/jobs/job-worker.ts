import type { ConsumerMessages, JetStreamClient, JsMsg } from '@nats-io/jetstream';
import type { MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { InfermuxError, messageOf, toInfermuxError } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';
import { CODE_HEADER, LENGTH_HEADER, MODEL_HEADER, NODE_HEADER, REASON_HEADER } from './job-headers.js';
import { fateOf, isPoison } from './job-outcome.js';
import { ACK_WAIT_MS, CONSUMER, type JobStreams, keyOf, openStreams } from './job-streams.js';

/** A job as its worker gets it. */
export interface Job {
  readonly model: string;
  readonly body: Uint8Array;
  /** Bytes of its JSON, when tensors in binary form follow it. */
  readonly jsonBytes: number | undefined;
  readonly traceparent: string | undefined;
  readonly id: string;
}

/** The body of a result, in the same form. */
export interface JobResult {
  readonly body: Uint8Array;
  readonly jsonBytes: number | undefined;
}

export interface JobWorkerOptions {
  readonly streams: JobStreams;
  /** Does a job. @throws InfermuxError by rejection. */
  run(job: Job): Promise<JobResult>;
  /** Most jobs under way. */
  readonly concurrency: number;
  /** Name of the worker, for results. */
  readonly node: string;
  log(level: 'info' | 'warn', fields: object, message: string): void;
}

/** What a worker has done. */
export interface JobCounts {
  done: number;
  /** Done before by another worker, whose acknowledgement was lost. */
  again: number;
  dead: number;
  retried: number;
}

const KEEP_MS = ACK_WAIT_MS / 3;
const RETRY_MS = 500;
/** How long the server keeps a pull for which there are no jobs. */
const PULL_MS = 5_000;
/** Time for the server to say that a result is stored. */
const PUBLISH_MS = 5_000;

/**
 * Takes jobs from a stream and stores their results. A job is taken out of the stream only when its result is stored, so that a
 * worker that dies loses none: another one does it again. A result is stored once: its subject takes one message.
 */
export class JobWorker {
  readonly counts: JobCounts = { done: 0, again: 0, dead: 0, retried: 0 };
  readonly #connection: NatsConnection;
  readonly #options: JobWorkerOptions;
  readonly #makeHeaders: () => MsgHdrs;
  readonly #jetstream: JetStreamClient;
  #batch: ConsumerMessages | undefined;
  #isStopped = false;
  /** When each began. */
  readonly #underWay = new Map<JsMsg, number>();
  #wake: (() => void) | undefined;
  readonly #keeping: NodeJS.Timeout;
  readonly #ended: Promise<void>;

  private constructor(
    connection: NatsConnection,
    jetstream: JetStreamClient,
    makeHeaders: () => MsgHdrs,
    options: JobWorkerOptions,
  ) {
    this.#connection = connection;
    this.#jetstream = jetstream;
    this.#makeHeaders = makeHeaders;
    this.#options = options;
    this.#keeping = setInterval(() => this.#keep(), KEEP_MS);
    this.#ended = this.#take();
  }

  static async start(connection: NatsConnection, options: JobWorkerOptions): Promise<JobWorker> {
    const { jetstream } = await natsPackage(() => import('@nats-io/jetstream'));
    const { headers } = await natsPackage(() => import('@nats-io/transport-node'));
    await openStreams(connection, options.streams);
    return new JobWorker(connection, jetstream(connection), headers, options);
  }

  /** Takes no more jobs, and resolves when those under way are done. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#wake?.();
    this.#batch?.stop();
    await this.#ended;
    while (this.#underWay.size > 0) await this.#settled();
    clearInterval(this.#keeping);
    // Acknowledgements are on their way.
    await this.#connection.flush().catch(() => undefined);
  }

  /** Pulls as many jobs as there is room for: what is pulled is under way, and waits nowhere else. */
  async #take(): Promise<void> {
    const { streams, concurrency, log } = this.#options;
    let wasInTrouble = false;
    while (!this.#isStopped) {
      try {
        const consumer = await this.#jetstream.consumers.get(streams.jobs, CONSUMER);
        while (!this.#isStopped) {
          const room = concurrency - this.#underWay.size;
          if (room < Math.ceil(concurrency / 4)) {
            await this.#settled();
            continue;
          }
          this.#batch = await consumer.fetch({ max_messages: room, expires: PULL_MS });
          for await (const message of this.#batch) this.#begin(message);
          wasInTrouble = false;
        }
      } catch (cause) {
        if (!wasInTrouble) log('warn', { reason: messageOf(cause) }, 'jobs cannot be taken; trying again');
        wasInTrouble = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Resolves when a job under way has ended, or the worker is to. */
  #settled(): Promise<void> {
    return new Promise((resolve) => (this.#wake = resolve));
  }

  #begin(message: JsMsg): void {
    if (this.#isStopped) {
      message.nak();
      return;
    }
    this.#underWay.set(message, performance.now());
    const ended = () => {
      this.#underWay.delete(message);
      this.#wake?.();
    };
    this.#do(message)
      .catch((cause: unknown) => {
        // The server is away: it delivers the job again.
        this.#options.log(
          'warn',
          { id: keyOf(message.subject), reason: messageOf(cause) },
          'a result cannot be stored',
        );
      })
      .finally(ended);
  }

  /** Silence would give the jobs under way to another worker. */
  #keep(): void {
    const before = performance.now() - KEEP_MS;
    for (const [message, began] of this.#underWay) if (began < before) message.working();
  }

  async #do(message: JsMsg): Promise<void> {
    const { run } = this.#options;
    const { deliveryCount } = message.info;
    if (isPoison(deliveryCount)) {
      await this.#bury(
        message,
        'REPLICA_FAILED',
        `delivered ${deliveryCount} times, and no worker has lived to answer it`,
      );
      return;
    }
    let result: JobResult;
    try {
      result = await run(jobOf(message));
    } catch (cause) {
      await this.#failed(message, toInfermuxError(cause), deliveryCount);
      return;
    }
    await this.#store(message, result);
  }

  async #store(message: JsMsg, { body, jsonBytes }: JobResult): Promise<void> {
    const { streams, node } = this.#options;
    const most = this.#connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
    if (body.byteLength > most) {
      const reason = `the result has ${body.byteLength} bytes, and the server takes ${most}: send fewer rows in a job, or ask for fewer outputs`;
      await this.#bury(message, 'FAILED_PRECONDITION', reason);
      return;
    }
    const headers = this.#makeHeaders();
    headers.set(NODE_HEADER, node);
    headers.set(MODEL_HEADER, message.headers?.get(MODEL_HEADER) ?? '');
    if (jsonBytes !== undefined) headers.set(LENGTH_HEADER, String(jsonBytes));
    const isNew = await this.#publishOnce(`${streams.jobs}.results.${keyOf(message.subject)}`, body, headers);
    message.ack();
    if (isNew) this.counts.done += 1;
    else this.counts.again += 1;
  }

  async #failed(message: JsMsg, error: InfermuxError, delivery: number): Promise<void> {
    const fate = fateOf(error, delivery);
    if (fate.kind === 'dead') {
      await this.#bury(message, error.code, fate.reason);
      return;
    }
    this.counts.retried += 1;
    message.nak(fate.afterMs);
  }

  /** Puts a job that cannot be done where somebody may look at it. */
  async #bury(message: JsMsg, code: string, reason: string): Promise<void> {
    const { streams, log, node } = this.#options;
    const headers = this.#makeHeaders();
    for (const name of [MODEL_HEADER, LENGTH_HEADER]) {
      const value = message.headers?.get(name);
      if (value) headers.set(name, value);
    }
    headers.set(NODE_HEADER, node);
    headers.set(CODE_HEADER, code);
    // A header is one line.
    headers.set(REASON_HEADER, reason.replace(/\s+/g, ' ').slice(0, 1_000));
    const id = keyOf(message.subject);
    await this.#publishOnce(`${streams.jobs}.dead.${id}`, message.data, headers);
    message.term(code);
    this.counts.dead += 1;
    log('warn', { id, code, reason }, 'a job is dead');
  }

  /** @returns false when the subject has its message already. */
  async #publishOnce(subject: string, body: Uint8Array, headers: MsgHdrs): Promise<boolean> {
    try {
      const expect = { lastSubjectSequence: 0 };
      await withoutTraces(() => this.#jetstream.publish(subject, body, { headers, expect, timeout: PUBLISH_MS }));
      return true;
    } catch (cause) {
      if (isTaken(cause)) return false;
      throw cause;
    }
  }
}

function jobOf(message: JsMsg): Job {
  const { headers, data, subject } = message;
  const model = headers?.get(MODEL_HEADER) ?? '';
  if (model === '')
    throw new InfermuxError('INVALID_ARGUMENT', `the job has no header ${MODEL_HEADER}, which names the model`);
  const length = headers?.get(LENGTH_HEADER) ?? '';
  if (length !== '' && !/^\d{1,10}$/.test(length)) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `${LENGTH_HEADER} must be a number of bytes, got ${JSON.stringify(length)}`,
    );
  }
  const traceparent = headers?.get('traceparent') || undefined;
  return { model, body: data, jsonBytes: length === '' ? undefined : Number(length), traceparent, id: keyOf(subject) };
}

/** NATS's client makes two errors for each publication in advance, and their traces take a tenth of a worker's time. */
function withoutTraces<T>(act: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return act();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Whether a subject that takes one message has one. */
function isTaken(cause: unknown): boolean {
  const { code, message = '' } = (cause ?? {}) as { readonly code?: unknown; readonly message?: string };
  return code === 10_071 || message.includes('wrong last sequence');
}
