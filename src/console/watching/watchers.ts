import type { ServerResponse } from 'node:http';
import type { InferenceEngine } from '../../index.js';
import { type Counts, Interval, readCounts } from './counts.js';
import { Happenings } from './happenings.js';
import { snapshotOf } from './snapshot.js';

const EVERY_MS = 1_000;
/** Tables show what went on in so many seconds. */
const TABLE_SECONDS = 10;
const MOST_WATCHERS = 64;
/** A page that has not read so much is gone, or cannot follow. */
const MOST_UNREAD_BYTES = 4 * 2 ** 20;

/** Sends snapshots to the pages that are open. Without any, nothing is read and no timer runs. */
export class Watchers {
  readonly #engine: InferenceEngine;
  readonly #isAdmin: boolean;
  readonly #happenings: Happenings;
  readonly #responses = new Set<ServerResponse>();
  /** The newest last. */
  #counts: Counts[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isEnded = false;

  constructor(engine: InferenceEngine, isAdmin: boolean) {
    this.#engine = engine;
    this.#isAdmin = isAdmin;
    this.#happenings = new Happenings(engine, Date.now);
  }

  /** Whether one more page may be open. */
  get hasRoom(): boolean {
    return !this.#isEnded && this.#responses.size < MOST_WATCHERS;
  }

  /** Sends a snapshot now, and each second from now on, as server-sent events. */
  add(response: ServerResponse): void {
    // Its client may have gone while a login was checked, for example: that is not told again.
    if (response.destroyed || response.closed) return;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      // Proxies must not keep events back.
      'x-accel-buffering': 'no',
    });
    this.#responses.add(response);
    response.on('error', () => undefined);
    response.on('close', () => this.#remove(response));
    this.#happenings.noteErrors(true);
    this.#timer ??= setInterval(() => void this.#look(this.#responses), EVERY_MS).unref();
    void this.#look([response]);
  }

  /** Ends all pages' connections, and takes no more. */
  end(): void {
    this.#isEnded = true;
    for (const response of this.#responses) response.end();
  }

  close(): void {
    this.end();
    this.#happenings.close();
    clearInterval(this.#timer);
  }

  #remove(response: ServerResponse): void {
    this.#responses.delete(response);
    if (this.#responses.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#counts = [];
    this.#happenings.noteErrors(false);
  }

  /** @param responses those that get the snapshot: all of them each second, and a new one at once. */
  async #look(responses: Iterable<ServerResponse>): Promise<void> {
    const status = this.#engine.status();
    const now = await readCounts(this.#engine, status, performance.now());
    if (this.#responses.size === 0) return;
    const before = this.#counts.at(-1) ?? now;
    const longBefore = this.#counts[0] ?? now;
    // Rates are those of whole seconds, however many pages are opened in between.
    if (responses === this.#responses || this.#counts.length === 0)
      this.#counts = [...this.#counts, now].slice(-TABLE_SECONDS);
    const moment = { at: Date.now(), second: new Interval(before, now), while: new Interval(longBefore, now) };
    const snapshot = snapshotOf(this.#engine, status, this.#happenings, moment, this.#isAdmin);
    const message = `data: ${JSON.stringify(snapshot)}\n\n`;
    for (const response of responses) {
      if (response.destroyed) this.#remove(response);
      else if (response.writableLength > MOST_UNREAD_BYTES) response.destroy();
      else response.write(message);
    }
  }
}
