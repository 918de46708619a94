import { expectedMs, largestWithin } from '../../../common/estimates/latency-fit.js';
import { commonRows } from '../../../tensors/tensor.js';
import { RecentMaximum } from '../../estimates/recent-maximum.js';
import { RecentMedian } from '../../estimates/recent-median.js';
import type { ModelQueue } from '../../queues/model-queue.js';

/** A shorter run holds up nobody for long: the system's own time slices make a thread wait for some milliseconds. */
const LONG_MS = 10;
/** A run is short beside one that takes this many times as long. */
export const MANY_TIMES = 10;
/**
 * The longest short run. Short runs wait for one another on the express replica, so even the longest must be a wait that
 * hardly anybody sees.
 */
const SHORT_MS = 50;
/** A short model stays short until its run takes this many times what a run may take to become short. */
const SLACK = 2;
/** A long run counts for this long, and for up to twice as long. */
const LATELY_MS = 10_000;

interface RunLength {
  /** Milliseconds of a request alone. A run that was held up counts for nothing, and a model that turns slow is seen. */
  readonly ms: RecentMedian;
  isShort: boolean;
}

/**
 * Says which models have short runs: a tenth of the longest run that there was lately, or less. Nothing is measured
 * until there is a long run, and nothing is short then.
 */
export class RunLengths {
  readonly #longest = new RecentMaximum(LATELY_MS);
  readonly #lengths = new WeakMap<ModelQueue, RunLength>();
  #hasLong = false;

  /** Whether runs have to be measured, or a run of this length begins it. It is called with each dispatch. */
  matters(milliseconds: number | undefined): boolean {
    return this.#hasLong || (milliseconds !== undefined && isLong(milliseconds));
  }

  /** The model's requests took `runMs` in all. Call it if that {@link matters}, and not for a handler. */
  worked(queue: ModelQueue, requests: number, runMs: number, now: number): void {
    let length = this.#lengths.get(queue);
    if (length === undefined) {
      length = { ms: new RecentMedian(), isShort: false };
      this.#lengths.set(queue, length);
    }
    // Requests that were joined would each have taken longer alone.
    length.ms.add(requests === 1 ? runMs : Math.max(runMs / requests, queue.times.runMs));
    this.begun(queue, now);
  }

  /** A run of the model begins. Call it if that {@link matters}. */
  begun(queue: ModelQueue, now: number): void {
    const milliseconds = this.msOf(queue);
    if (milliseconds !== undefined && isLong(milliseconds)) this.#longest.add(milliseconds, now);
    this.#hasLong = this.#longest.at(now) > 0;
  }

  /** Milliseconds of one request alone; undefined until it was measured. */
  msOf(queue: ModelQueue): number | undefined {
    return this.#lengths.get(queue)?.ms.value;
  }

  isShort(queue: ModelQueue, now: number): boolean {
    const length = this.#lengths.get(queue);
    if (length === undefined) return false;
    const mostMs = this.#mostMs(now) * (length.isShort ? SLACK : 1);
    length.isShort = (length.ms.value ?? Number.POSITIVE_INFINITY) <= mostMs;
    return length.isShort;
  }

  /** How many of the waiting requests make one short run; 0 when the model is not short, or its first request is not. */
  shortRun(queue: ModelQueue, now: number): number {
    const { head, batching, times } = queue;
    const estimate = times.calls.estimate();
    if (head === undefined || estimate === undefined || !this.isShort(queue, now)) return 0;
    const mostMs = this.#mostMs(now) * SLACK;
    const rows = batching.isJoined ? Math.max(1, commonRows(head.feeds)) : 1;
    if (expectedMs(estimate, rows) > mostMs) return 0;
    return batching.isJoined ? Math.max(1, Math.floor(largestWithin(estimate, mostMs) / rows)) : queue.size;
  }

  #mostMs(now: number): number {
    return Math.min(SHORT_MS, this.#longest.at(now) / MANY_TIMES);
  }
}

export function isLong(milliseconds: number): boolean {
  return milliseconds >= LONG_MS;
}
