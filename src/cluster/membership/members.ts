import type { KV } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { messageOf } from '../../common/errors.js';
import { keyOf, listSlots, openBucket, slotOf, TTL_MS } from './bucket.js';
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
  readonly #trouble: (message: string) => void;
  readonly #seen = new Map<number, { readonly record: NodeRecord; readonly at: number }>();
  /** When anything was last heard. */
  #heardAt = performance.now();
  /** When the bucket was last asked to tell. */
  #askedAt = 0;
  #timer: NodeJS.Timeout | undefined;
  #stop: (() => void) | undefined;
  #isStopped = false;
  /** Whether something has changed that was not told yet. */
  #isNews = false;
  #lastTrouble = '';

  private constructor(
    connection: NatsConnection,
    changed: (members: Members) => void,
    trouble: (message: string) => void,
  ) {
    this.#connection = connection;
    this.#changed = changed;
    this.#trouble = trouble;
  }

  /**
   * @param changed called with the members as soon as all that are written down are known, and when one has come, has gone, has
   *   another address or begins to drain.
   * @param trouble called with the reason when they cannot be known, once for each; it is tried again.
   */
  static start(
    connection: NatsConnection,
    changed: (members: Members) => void,
    trouble: (message: string) => void,
  ): MemberWatch {
    const watch = new MemberWatch(connection, changed, trouble);
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
        await this.#takeAll(bucket);
        if (this.#isStopped) return;
        const watch = await bucket.watch({ key: 'slot.*' });
        this.#stop = () => watch.stop();
        this.#askedAt = performance.now();
        this.#lastTrouble = '';
        for await (const { key, operation, value } of watch) {
          const slot = slotOf(key);
          if (slot !== undefined) this.#take(slot, operation === 'PUT' ? value : undefined);
          this.#tellNews();
        }
      } catch (cause) {
        // The server is away; or the bucket is not as it should be.
        if (!this.#isStopped && messageOf(cause) !== this.#lastTrouble) this.#trouble(messageOf(cause));
        this.#lastTrouble = messageOf(cause);
      }
      if (!this.#isStopped) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /**
   * Reads all that are written down, and tells of them together: the first one alone would be all there is. The watch that
   * follows does not say reliably which of its messages is the last one of these: what is written meanwhile counts, too.
   */
  async #takeAll(bucket: KV): Promise<void> {
    const slots = await listSlots(this.#connection);
    const entries = await Promise.all(slots.map((slot) => bucket.get(keyOf(slot))));
    for (const [index, entry] of entries.entries()) {
      if (entry?.operation === 'PUT') this.#take(slots[index] as number, entry.value);
    }
    this.#tellNews();
  }

  #tellNews(): void {
    if (!this.#isNews) return;
    this.#isNews = false;
    this.#changed(this.members);
  }

  #take(slot: number, value: Uint8Array | undefined): void {
    const now = performance.now();
    this.#heardAt = now;
    const before = this.#seen.get(slot)?.record;
    const record = value === undefined ? undefined : decodeRecord(value);
    if (record === undefined) this.#seen.delete(slot);
    else this.#seen.set(slot, { record, at: now });
    this.#isNews ||= placeOf(before) !== placeOf(record);
  }

  #expire(): void {
    const now = performance.now();
    // Each node is heard of each second. If none is, the server is away or has made the bucket anew: those that are known are the
    // best there is.
    if (now - this.#heardAt > TTL_MS) {
      if (now - this.#askedAt > TTL_MS) this.#stop?.();
      return;
    }
    const before = this.#seen.size;
    // Against the others: while the server is away, all are silent.
    for (const [slot, { at }] of this.#seen) if (at < this.#heardAt - TTL_MS) this.#seen.delete(slot);
    if (this.#seen.size !== before) this.#changed(this.members);
  }

  /** The server forgets who watches when it is started again. */
  async #beginAnewAfterOutages(): Promise<void> {
    for await (const { type } of this.#connection.status()) {
      if (this.#isStopped) return;
      if (type !== 'reconnect') continue;
      // What nodes said meanwhile is lost.
      this.#stop?.();
    }
  }
}

/** What proxies know of a node. */
const placeOf = (record: NodeRecord | undefined) =>
  record && JSON.stringify([record.http, record.grpc, record.tls, record.draining]);
