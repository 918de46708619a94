import type { KV } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { isConflict } from '../nats/nats-connection.js';
import { BEAT_MS, keyOf, listSlots, MOST_SLOTS, openBucket } from './bucket.js';
import { decodeRecord, encodeRecord, type NodeRecord } from './node-record.js';

export interface AnnouncerLog {
  /** The node cannot be announced, which is tried again; told once until it can. */
  trouble(reason: string): void;
  /** It is announced, but something is odd. */
  warn(message: string): void;
  /** It has another slot. */
  moved(slot: number): void;
}

/** A node whose slot is higher than this many times the number of nodes takes a lower one: proxies have room for so many. */
const ROOM = 2;
/** Beats from one look at the slots to the next. */
const LOOK_BEATS = 5;

/**
 * Tells others that a node is there: writes its record into the bucket each second, and takes it out when the node leaves. A
 * record that is not written again expires.
 *
 * Each node has a slot, the lowest that is free, which proxies know it by: so all proxies agree. It keeps its slot, unless most nodes
 * have gone and its slot is too high for what is left.
 */
export class NodeAnnouncer {
  readonly #connection: NatsConnection;
  readonly #read: () => NodeRecord;
  readonly #log: AnnouncerLog;
  #bucket: KV | undefined;
  #place: { readonly slot: number; revision: number } | undefined;
  /** The slot that it had last. */
  #last: number | undefined;
  #beats = 0;
  /** Whether its slot was too high at the last look. After an outage nodes come back one by one: a single look may miss some. */
  #wasHigh = false;
  #isWaiting = false;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> = Promise.resolve();
  #hasLeft = false;
  #wasInTrouble = false;

  private constructor(connection: NatsConnection, read: () => NodeRecord, log: AnnouncerLog) {
    this.#connection = connection;
    this.#read = read;
    this.#log = log;
  }

  /**
   * Announces a node. Resolves when it is written down.
   *
   * @param read tells what the node is now.
   * @param last the slot that the node had before: it is asked for first.
   */
  static async start(
    connection: NatsConnection,
    read: () => NodeRecord,
    log: AnnouncerLog,
    last?: number,
  ): Promise<NodeAnnouncer> {
    const announcer = new NodeAnnouncer(connection, read, log);
    announcer.#last = last;
    await announcer.#beat();
    announcer.#timer = setInterval(() => void announcer.tell(), BEAT_MS);
    return announcer;
  }

  /** The node's slot; undefined while it has none. */
  get slot(): number | undefined {
    return this.#place?.slot;
  }

  /** The slot that it has, or had last. */
  get last(): number | undefined {
    return this.#last;
  }

  /** Writes the record now: something has changed. Resolves when it is written, or cannot be. */
  tell(): Promise<void> {
    // One that is to come tells what there is by then.
    if (this.#isWaiting) return this.#beating;
    this.#isWaiting = true;
    this.#beating = this.#beating.then(() => {
      this.#isWaiting = false;
      return this.#hasLeft ? undefined : this.#beat();
    });
    return this.#beating;
  }

  /** Takes the record out. */
  async leave(): Promise<void> {
    this.#hasLeft = true;
    clearInterval(this.#timer);
    await this.#beating;
    const place = this.#place;
    this.#place = undefined;
    try {
      if (place !== undefined) await this.#bucket?.delete(keyOf(place.slot), { previousSeq: place.revision });
    } catch {
      // It expires.
    }
  }

  async #beat(): Promise<void> {
    try {
      await this.#write(encodeRecord(this.#read()));
      this.#wasInTrouble = false;
    } catch (cause) {
      // The next beat tries again, with a bucket that may have to be made anew.
      this.#bucket = undefined;
      if (!this.#wasInTrouble) this.#log.trouble((cause as Error).message);
      this.#wasInTrouble = true;
    }
  }

  async #write(record: string): Promise<void> {
    this.#bucket ??= await openBucket(this.#connection);
    const bucket = this.#bucket;
    if (this.#place !== undefined) {
      try {
        const { slot, revision } = this.#place;
        // One that is lost with a connection must not hold up the next.
        this.#place.revision = await bucket.update(keyOf(slot), record, revision, BEAT_MS);
        this.#beats += 1;
        if (this.#beats % LOOK_BEATS === 0) await this.#moveDown(bucket, record);
        return;
      } catch (cause) {
        if (!isConflict(cause)) throw cause;
        // It has expired, and another node may have the slot.
        this.#place = undefined;
      }
    }
    this.#place = await this.#claim(bucket, record);
    this.#last = this.#place.slot;
  }

  async #moveDown(bucket: KV, record: string): Promise<void> {
    const old = this.#place;
    if (old === undefined || old.slot <= ROOM) return;
    const taken = new Set(await listSlots(this.#connection));
    const isHigh = old.slot > ROOM * taken.size;
    const isMoving = isHigh && this.#wasHigh;
    this.#wasHigh = isHigh;
    if (!isMoving) return;
    const slot = lowestFree(taken);
    try {
      this.#place = { slot, revision: await bucket.create(keyOf(slot), record) };
      this.#last = slot;
      this.#log.moved(slot);
      await bucket.delete(keyOf(old.slot), { previousSeq: old.revision });
    } catch (cause) {
      // Another node was faster: this one looks again later. Or the old record has expired.
      if (!isConflict(cause)) throw cause;
    }
  }

  async #claim(bucket: KV, record: string): Promise<{ slot: number; revision: number }> {
    const { node, http } = this.#read();
    const taken = new Map<number, { record: NodeRecord | undefined; revision: number }>();
    for (const slot of await listSlots(this.#connection)) {
      const entry = await bucket.get(keyOf(slot));
      if (entry?.operation !== 'PUT') continue;
      taken.set(slot, { record: decodeRecord(entry.value), revision: entry.revision });
    }
    for (const [slot, { record: other, revision }] of taken) {
      if (other?.node !== node) continue;
      // It is this node before it was started again.
      if (other.http === http) return { slot, revision: await bucket.update(keyOf(slot), record, revision) };
      this.#log.warn(`another node is named ${node}, at ${other.http}: name each with --node-name`);
    }
    const all = Array.from({ length: MOST_SLOTS }, (_, index) => index + 1);
    for (const slot of this.#last === undefined ? all : [this.#last, ...all]) {
      if (taken.has(slot)) continue;
      try {
        return { slot, revision: await bucket.create(keyOf(slot), record) };
      } catch (cause) {
        if (!isConflict(cause)) throw cause;
      }
    }
    throw new Error(`there are ${MOST_SLOTS} nodes already`);
  }
}

function lowestFree(taken: ReadonlySet<number>): number {
  let slot = 1;
  while (taken.has(slot)) slot += 1;
  return slot;
}
