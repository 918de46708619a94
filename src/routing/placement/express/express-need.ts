import type { Clock } from '../../../common/clock.js';
import { DecayedSum } from '../../estimates/decayed-sum.js';
import type { ModelQueue } from '../../queues/model-queue.js';

/** Expected milliseconds of the start of a thread. */
const START_MS = 50;
/** Waits are added up over about this time. */
const LATELY_MS = 10_000;
/** So few requests may have waited by chance. */
const LEAST_REQUESTS = 3;
/** An express replica ends when it was not needed for this long, and for the time of this many starts and loads. */
const UNUSED_MS = 30_000;
const UNUSED_TIMES = 10;

/**
 * Adds up how long short runs waited behind long ones, and says when that has paid: for a load of their model on the
 * express replica, and beyond the loads for the start of its thread. This is the ski-rental rule: see `msUntilSpill`.
 *
 * The need ends when nothing has waited so, and nothing was given to the express replica, for much longer than a new
 * start and new loads would take. So a steady load cannot make it come and go.
 */
export class ExpressNeed {
  readonly #clock: Clock;
  readonly #longestLoadMs: () => number;
  readonly #changed: (isNeeded: boolean) => void;
  readonly #waits = new WeakMap<ModelQueue, DecayedSum>();
  /** Waits beyond those that paid for loads. */
  #surplus = new DecayedSum(LATELY_MS);
  /** Requests that waited, without a longer pause between them. */
  #requests = 0;
  #lastAt = Number.NEGATIVE_INFINITY;
  #isNeeded = false;

  /**
   * @param longestLoadMs milliseconds of the longest load that a new express replica would need.
   * @param changed called in a turn of its own with each change.
   */
  constructor(clock: Clock, longestLoadMs: () => number, changed: (isNeeded: boolean) => void) {
    this.#clock = clock;
    this.#longestLoadMs = longestLoadMs;
    this.#changed = changed;
  }

  get isNeeded(): boolean {
    return this.#isNeeded;
  }

  /** Whether the model's waits have paid for a load of it. */
  hasPaid(queue: ModelQueue, now: number): boolean {
    return (this.#waits.get(queue)?.total(now) ?? 0) >= queue.times.loadMs;
  }

  /** Requests of the model waited behind a long run, in all for so long. */
  heldUp(queue: ModelQueue, requests: number, milliseconds: number, now: number): void {
    let waits = this.#waits.get(queue);
    if (waits === undefined) {
      waits = new DecayedSum(LATELY_MS);
      this.#waits.set(queue, waits);
    }
    const { loadMs } = queue.times;
    const before = Math.max(0, waits.total(now) - loadMs);
    waits.add(milliseconds, now);
    this.#surplus.add(Math.max(0, waits.total(now) - loadMs) - before, now);
    this.#requests = requests + (now - this.#lastAt > LATELY_MS ? 0 : this.#requests);
    this.used(now);
    const hasPaid = this.#requests >= LEAST_REQUESTS && this.#surplus.total(now) >= START_MS;
    if (hasPaid && !this.#isNeeded) this.#begin();
  }

  /** The express replica is given requests. */
  used(now: number): void {
    this.#lastAt = now;
  }

  #begin(): void {
    this.#set(true);
    this.#endAfter(this.#patienceMs());
  }

  #endAfter(milliseconds: number): void {
    this.#clock.schedule(() => {
      const leftMs = this.#lastAt + this.#patienceMs() - this.#clock.now();
      if (leftMs > 0) this.#endAfter(leftMs);
      else this.#end();
    }, milliseconds);
  }

  #end(): void {
    this.#surplus = new DecayedSum(LATELY_MS);
    this.#set(false);
  }

  #patienceMs(): number {
    return Math.max(UNUSED_MS, UNUSED_TIMES * (START_MS + this.#longestLoadMs()));
  }

  /** A replica may be added in reply, and a request is being given at this moment. */
  #set(isNeeded: boolean): void {
    this.#isNeeded = isNeeded;
    this.#clock.nextTurn(() => this.#changed(isNeeded));
  }
}
