import { setTimeout as sleep } from 'node:timers/promises';
import type { ConsumerMessages, JetStreamClient, JetStreamManager, JsMsg } from '@nats-io/jetstream';
import type { MsgHdrs, NatsConnection } from '@nats-io/transport-node';
import { messageOf, toInfermuxError } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';
import { JobEnds, pauseUnless } from './job-ends.js';
import { JobMemory } from './job-memory.js';
import { type Job, jobOf } from './job-message.js';
import { ALONE_FROM, fateOf, MOST_ENDED } from './job-outcome.js';
import { ACK_WAIT_MS, CONSUMER, type JobStreams, keyOf, openStreams } from './job-streams.js';

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
  /** Tries that failed, after which this worker or another one tries again. */
  retried: number;
}

const KEEP_MS = ACK_WAIT_MS / 3;
const RETRY_MS = 500;
/** Tries to take note of a job: half a minute of them. */
const MOST_NOTES = 60;
/** After that a job comes again that was given back, so that a fault does not keep the worker busy. */
const GIVEN_BACK_MS = 1_000;
/** Most jobs of a pull: the server ends connections that are to take more than 64 MB at once. */
const MOST_OF_A_PULL = 32;
/** Time for the server's last answers to a worker that ends. */
const ANSWER_MS = 1_000;
/** How long the server keeps a pull for which there are no jobs. */
const PULL_MS = 5_000;

/**
 * Takes jobs from a stream and stores their results. A job is taken out of the stream only when its result is stored, so that a
 * worker that dies loses none: another one does it again. A result is stored once: its subject takes one message.
 */
export class JobWorker {
  readonly counts: JobCounts = { done: 0, again: 0, dead: 0, retried: 0 };
  readonly #connection: NatsConnection;
  readonly #options: JobWorkerOptions;
  readonly #ends: JobEnds;
  readonly #memory: JobMemory;
  readonly #jetstream: JetStreamClient;
  #batch: ConsumerMessages | undefined;
  #isStopped = false;
  /** When each began. */
  readonly #underWay = new Map<JsMsg, number>();
  /** Those under way that have not begun: jobs that workers may have died by, and others. */
  readonly #suspects: JsMsg[] = [];
  readonly #waiting: JsMsg[] = [];
  #running = 0;
  /** A suspect that runs: nothing may run beside it. */
  #alone: JsMsg | undefined;
  #wake: (() => void) | undefined;
  readonly #keeping: NodeJS.Timeout;
  readonly #ended: Promise<void>;

  private constructor(
    connection: NatsConnection,
    jetstream: JetStreamClient,
    manager: JetStreamManager,
    makeHeaders: () => MsgHdrs,
    memory: JobMemory,
    options: JobWorkerOptions,
  ) {
    this.#memory = memory;
    this.#connection = connection;
    this.#jetstream = jetstream;
    const isStopped = () => this.#isStopped;
    this.#ends = new JobEnds({ connection, jetstream, manager, makeHeaders, isStopped, options });
    this.#options = options;
    this.#keeping = setInterval(() => this.#keep(), KEEP_MS);
    this.#ended = this.#take();
  }

  static async start(connection: NatsConnection, options: JobWorkerOptions): Promise<JobWorker> {
    const { jetstream } = await natsPackage(() => import('@nats-io/jetstream'));
    const { headers } = await natsPackage(() => import('@nats-io/transport-node'));
    const manager = await openStreams(connection, options.streams);
    const memory = await JobMemory.open(connection, options.streams);
    return new JobWorker(connection, jetstream(connection), manager, headers, memory, options);
  }

  /** Takes no more jobs, and resolves when those under way are done, or have been given back. @param graceMs time for them. */
  async stop(graceMs: number): Promise<void> {
    let isOver = false;
    const grace = sleep(graceMs, undefined, { ref: false }).then(() => {
      isOver = true;
      this.#wake?.();
    });
    this.#isStopped = true;
    this.#wake?.();
    this.#batch?.stop();
    await Promise.race([this.#ended, grace]);
    for (const message of [...this.#suspects.splice(0), ...this.#waiting.splice(0)]) {
      message.nak();
      this.#underWay.delete(message);
    }
    while (this.#underWay.size > 0 && !isOver) await this.#settled();
    clearInterval(this.#keeping);
    const left = [...this.#underWay.keys()];
    this.#underWay.clear();
    // It did not end this worker: a signal did.
    if (this.#alone !== undefined) await unlessAway(this.#memory.survived(keyOf(this.#alone.subject)));
    for (const message of left) message.nak();
    await unlessAway(this.#connection.flush());
  }

  /** Pulls as many jobs as there is room for: what is pulled is under way, and waits nowhere else. */
  async #take(): Promise<void> {
    const { streams, concurrency, log } = this.#options;
    let wasInTrouble = false;
    while (!this.#isStopped && !this.#connection.isClosed()) {
      try {
        // Somebody may have deleted the stream or its consumer.
        await openStreams(this.#connection, streams);
        const consumer = await this.#jetstream.consumers.get(streams.jobs, CONSUMER);
        while (!this.#isStopped) {
          const room = concurrency - this.#underWay.size;
          if (room < Math.ceil(concurrency / 4)) {
            await this.#settled();
            continue;
          }
          this.#batch = await consumer.fetch({ max_messages: Math.min(room, MOST_OF_A_PULL), expires: PULL_MS });
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
      message.nak(GIVEN_BACK_MS);
      return;
    }
    this.#underWay.set(message, performance.now());
    if (message.info.deliveryCount >= ALONE_FROM) void this.#judge(message);
    else this.#waiting.push(message);
    this.#goOn();
  }

  /** Finds out whether workers may have died by a job that was delivered often. Never rejects. */
  async #judge(message: JsMsg): Promise<void> {
    const past = this.#memory.read(keyOf(message.subject));
    const givenBack = await past.then((each) => each.givenBack).catch(() => 0);
    if (this.#isStopped) {
      message.nak(GIVEN_BACK_MS);
      this.#underWay.delete(message);
      this.#wake?.();
      return;
    }
    const isSuspect = message.info.deliveryCount - givenBack >= ALONE_FROM;
    (isSuspect ? this.#suspects : this.#waiting).push(message);
    this.#goOn();
  }

  /** Begins what can be begun: all that waits together; or, alone and before the others, a job that may have ended workers. */
  #goOn(): void {
    if (this.#alone !== undefined || this.#isStopped) return;
    const suspect = this.#running === 0 ? this.#suspects.shift() : undefined;
    if (suspect !== undefined) {
      this.#alone = suspect;
      void this.#run(suspect, () => this.#doAlone(suspect));
    } else if (this.#suspects.length === 0) {
      for (const message of this.#waiting.splice(0)) void this.#run(message, () => this.#do(message));
    }
  }

  async #doAlone(message: JsMsg): Promise<void> {
    const key = keyOf(message.subject);
    const { begunAlone, givenBack } = await this.#memory.read(key);
    try {
      await this.#memory.write(key, { begunAlone: begunAlone + 1, givenBack });
      if (begunAlone < MOST_ENDED) await this.#do(message);
      else {
        const reason = `it has ended ${begunAlone} workers that processed nothing else at that time`;
        this.counts[await this.#ends.bury(message, 'REPLICA_FAILED', reason)] += 1;
      }
    } finally {
      await this.#survived(key);
    }
  }

  /** Takes note that a job has not ended this worker: only the end of the process must leave that open. Never rejects. */
  async #survived(key: string): Promise<void> {
    for (let tries = 1; tries <= MOST_NOTES; tries += 1) {
      try {
        await this.#memory.survived(key);
        return;
      } catch (cause) {
        // The server is away, or the worker ends, which takes note of it itself.
        if (this.#isStopped || this.#connection.isClosed()) return;
        // A job that is blamed wrongly is better than a worker that does nothing.
        if (tries === MOST_NOTES)
          this.#options.log('warn', { id: key, reason: messageOf(cause) }, 'no note is taken of a job');
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  /** Never rejects. */
  async #run(message: JsMsg, act: () => Promise<void>): Promise<void> {
    this.#running += 1;
    const ended = () => {
      this.#running -= 1;
      if (this.#running === 0) this.#alone = undefined;
      this.#underWay.delete(message);
      this.#wake?.();
      this.#goOn();
    };
    await act()
      .catch((cause: unknown) => {
        // The worker ends, or the connection has: another one gets the job.
        if (!this.#connection.isClosed()) message.nak(GIVEN_BACK_MS);
        this.#options.log('warn', { id: keyOf(message.subject), reason: messageOf(cause) }, 'a job is given back');
      })
      .finally(ended);
  }

  /** Silence would give the jobs under way to another worker. */
  #keep(): void {
    const before = performance.now() - KEEP_MS;
    if (this.#connection.isClosed()) return;
    for (const [message, began] of this.#underWay) if (began < before) message.working();
  }

  async #do(message: JsMsg): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      let result: JobResult;
      try {
        result = await this.#options.run(jobOf(message));
      } catch (cause) {
        const error = toInfermuxError(cause);
        const key = keyOf(message.subject);
        const past = await this.#memory.read(key);
        // It was given back meanwhile.
        if (!this.#underWay.has(message)) return;
        const fate = fateOf(error, tries, past.givenBack);
        if (fate.kind === 'dead') {
          this.counts[await this.#ends.bury(message, error.code, fate.reason)] += 1;
          if (past.givenBack > 0) await this.#memory.forget(key).catch(() => undefined);
          return;
        }
        this.counts.retried += 1;
        if (fate.kind === 'elsewhere') {
          this.#options.log('warn', { id: key, reason: error.message }, 'a job is given back');
          await this.#memory.write(key, { begunAlone: 0, givenBack: past.givenBack + 1 });
          message.nak(fate.afterMs);
          return;
        }
        await pauseUnless(() => this.#isStopped, fate.afterMs);
        continue;
      }
      if (!this.#underWay.has(message)) return;
      this.counts[await this.#ends.store(message, result)] += 1;
      // Under its name another job may come.
      if (message.info.deliveryCount > 1) await this.#memory.forget(keyOf(message.subject)).catch(() => undefined);
      return;
    }
  }
}

/** Waits for the server's answer, which may be away. Never rejects. */
async function unlessAway(asked: Promise<void>): Promise<void> {
  await Promise.race([asked.catch(() => undefined), sleep(ANSWER_MS, undefined, { ref: false })]);
}
