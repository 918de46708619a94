import type { NatsConnection } from '@nats-io/transport-node';
import { openBucket, slotOf, TTL_MS } from './bucket.js';
import { decodeRecord, type NodeRecord } from './node-record.js';

/** The nodes that are there, by slot. */
export type Members = ReadonlyMap<number, NodeRecord>;

const RETRY_MS = 500;
/** The server tells of what is deleted, and not of what expires. */
const LOOK_MS = 500;

/** Follows the bucket of the nodes. */
export class MemberWatch {
  readonly #connection: NatsConnection;
  readonly #changed: (members: Members) => void;
  readonly #seen = new Map<number, { readonly record: NodeRecord; at: number }>();
  #timer: NodeJS.Timeout | undefined;
  #stop: (() => void) | undefined;
  #isStopped = false;

  private constructor(connection: NatsConnection, changed: (members: Members) => void) {
    this.#connection = connection;
    this.#changed = changed;
  }

  /** @param changed called with the members as soon as they are known, and when any has come, gone or told something new. */
  static start(connection: NatsConnection, changed: (members: Members) => void): MemberWatch {
    const watch = new MemberWatch(connection, changed);
    watch.#timer = setInterval(() => watch.#expire(), LOOK_MS);
    void watch.#follow();
    void watch.#beginAnewAfterOutages();
    return watch;
  }

  get members(): Members {
    return new Map([...this.#seen].sort(([left], [right]) => left - right).map(([slot, { record }]) => [slot, record]));
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#stop?.();
  }

  async #follow(): Promise<void> {
    while (!this.#isStopped && !this.#connection.isClosed()) {
      try {
        const bucket = await openBucket(this.#connection);
        const watch = await bucket.watch({ key: 'slot.*' });
        this.#stop = () => watch.stop();
        for await (const { key, operation, value } of watch) {
          const slot = slotOf(key);
          if (slot === undefined) continue;
          const record = operation === 'PUT' ? decodeRecord(value) : undefined;
          if (record === undefined) this.#seen.delete(slot);
          else this.#heard(slot, record);
          this.#changed(this.members);
        }
      } catch {
        // The server is away, or has lost the bucket.
      }
      if (!this.#isStopped) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  #expire(): void {
    // A server that is away lets nobody be heard of: the last that is known is the best there is.
    if (this.#connection.isClosed() || !this.#isHeard) return;
    const before = this.#seen.size;
    const oldest = performance.now() - TTL_MS;
    for (const [slot, { at }] of this.#seen) if (at < oldest) this.#seen.delete(slot);
    if (this.#seen.size !== before) this.#changed(this.members);
  }

  #heard(slot: number, record: NodeRecord): void {
    const now = performance.now();
    // After an outage one is the first. The others have as long as ever to be heard of again.
    if (!this.#isHeard) for (const seen of this.#seen.values()) seen.at = now;
    this.#seen.set(slot, { record, at: now });
  }

  /** The server forgets who watches when it is started again. */
  async #beginAnewAfterOutages(): Promise<void> {
    for await (const { type } of this.#connection.status()) {
      if (this.#isStopped) return;
      if (type === 'reconnect') this.#stop?.();
    }
  }

  /** Whether anybody was heard of lately. */
  get #isHeard(): boolean {
    const latest = Math.max(...[...this.#seen.values()].map(({ at }) => at));
    return latest > performance.now() - TTL_MS / 2;
  }
}
