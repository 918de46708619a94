import type { KV } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { natsPackage } from '../nats/nats-connection.js';
import type { JobStreams } from './job-streams.js';

/** How long a job is remembered that nobody asks for again. */
const TTL_MS = 86_400_000;

/**
 * Remembers which jobs were begun alone and have not ended: their workers have died by them, since nothing else was under way.
 * How often a job was delivered does not say that: those that lay beside it were delivered as often.
 */
export class Suspects {
  readonly #open: () => Promise<KV>;
  #bucket: KV;

  private constructor(open: () => Promise<KV>, bucket: KV) {
    this.#open = open;
    this.#bucket = bucket;
  }

  static async open(connection: NatsConnection, { jobs }: JobStreams): Promise<Suspects> {
    const { Kvm } = await natsPackage(() => import('@nats-io/kv'));
    const open = () => new Kvm(connection).create(`${jobs}-suspects`, { history: 1, ttl: TTL_MS });
    return new Suspects(open, await open());
  }

  /** Notes that a job is begun alone. @returns how often it was begun before, and did not end. */
  async begins(job: string): Promise<number> {
    const key = keyOf(job);
    try {
      const entry = await this.#bucket.get(key);
      const before = entry === null || entry.operation !== 'PUT' ? 0 : Number(entry.string()) || 0;
      await this.#bucket.put(key, String(before + 1));
      return before;
    } catch (cause) {
      // Somebody may have deleted the bucket. The job comes again.
      this.#bucket = await this.#open();
      throw cause;
    }
  }

  /** The job has not ended this worker. */
  async ends(job: string): Promise<void> {
    await this.#bucket.delete(keyOf(job));
  }
}

/** Keys have fewer characters than subjects. */
const keyOf = (job: string) => Buffer.from(job).toString('base64url');
