import type { KV } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { makeOnce, natsPackage } from '../nats/nats-connection.js';
import type { JobStreams } from './job-streams.js';

/** How long a job is remembered that nobody asks for again. */
const TTL_MS = 86_400_000;

/** What all workers know of a job. */
export interface JobPast {
  /**
   * How often it was begun alone and has not ended: its workers have died by it, since nothing else was under way. How often it was
   * delivered does not say that: those that lay beside it were delivered as often.
   */
  readonly begunAlone: number;
  /** How often a worker gave it back because the fault may have been that worker's. */
  readonly givenBack: number;
}

const NOTHING: JobPast = { begunAlone: 0, givenBack: 0 };

/** Remembers what became of the few jobs that were not simply done. */
export class JobMemory {
  readonly #open: () => Promise<KV>;
  #bucket: KV;

  private constructor(open: () => Promise<KV>, bucket: KV) {
    this.#open = open;
    this.#bucket = bucket;
  }

  static async open(connection: NatsConnection, { jobs }: JobStreams): Promise<JobMemory> {
    const { Kvm } = await natsPackage(() => import('@nats-io/kv'));
    const open = () => makeOnce(() => new Kvm(connection).create(`${jobs}-memory`, { history: 1, ttl: TTL_MS }));
    return new JobMemory(open, await open());
  }

  async read(job: string): Promise<JobPast> {
    try {
      const entry = await this.#bucket.get(keyOf(job));
      return entry?.operation === 'PUT' ? { ...NOTHING, ...entry.json<JobPast>() } : NOTHING;
    } catch (cause) {
      // Somebody may have deleted the bucket. The job comes again.
      this.#bucket = await this.#open();
      throw cause;
    }
  }

  /** A job is a single worker's at a time, so nobody else writes meanwhile. */
  async write(job: string, past: JobPast): Promise<void> {
    await this.#bucket.put(keyOf(job), JSON.stringify(past));
  }

  /** The job has not ended its worker. */
  async survived(job: string): Promise<void> {
    const { givenBack } = await this.read(job);
    await (givenBack === 0 ? this.forget(job) : this.write(job, { begunAlone: 0, givenBack }));
  }

  async forget(job: string): Promise<void> {
    await this.#bucket.delete(keyOf(job));
  }
}

/** Keys have fewer characters than subjects. */
const keyOf = (job: string) => Buffer.from(job).toString('base64url');
