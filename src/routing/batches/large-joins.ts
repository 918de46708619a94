import { RecentMedian } from '../estimates/recent-median.js';

/** Calls after which the slower way is tried again: few at first, then twice as many each time, up to a limit. */
const TRY_AGAIN_AFTER = { first: 64, most: 4_096 };
/** Joining has to save this share of the time: a request alone has its answer sooner. */
const LEAST_GAIN = 0.1;
/** Calls of each way that are compared: on a busy machine the times of a few say little. */
export const COMPARED_CALLS = 9;
const TRIAL_REQUESTS = 2;
/**
 * Joining saves a part of a run, and costs a copy. It is not even tried when the run takes less than this many copies, at
 * ten gigabytes a second.
 */
const LEAST_RUN_TO_COPY = 4;
const COPY_MS_PER_BYTE = 1e-7;
/** A model may be asked with tensors of any number of sizes. */
const MOST_SIZES = 64;

/** What is known of requests of one size. The medians are of the milliseconds of one request. */
interface Times {
  alone: RecentMedian;
  joined: RecentMedian;
  /** The shortest run alone: the first ones are often slow. */
  leastMs: number;
  /** Calls since both were known. */
  calls: number;
  tryAgainAfter: number;
  wasJoined: boolean;
}

/**
 * Whether requests with large tensors run faster as one call, for one model. To join them means to copy them: that
 * takes longer than a call costs beyond its rows, unless the model is heavy. So it is measured for each size of
 * request: first alone, then joined, and later the slower way again now and then.
 */
export class LargeJoins {
  /** By bytes of a request. */
  readonly #sizes = new Map<number, Times>();

  /** @param bytes of the large tensors of one request. */
  isWorthIt(bytes: number): boolean {
    const times = this.#sizes.get(bytes);
    if (times?.alone.value === undefined) return false;
    if (times.joined.value !== undefined) return isJoinedFaster(times);
    return times.leastMs >= LEAST_RUN_TO_COPY * COPY_MS_PER_BYTE * bytes;
  }

  /** Most requests of a call: a trial takes little memory. */
  mostRequests(bytes: number): number {
    return this.#sizes.get(bytes)?.joined.value === undefined ? TRIAL_REQUESTS : Number.POSITIVE_INFINITY;
  }

  /** A call for so many requests took this long. */
  add(bytes: number, requests: number, milliseconds: number): void {
    const times = this.#timesOf(bytes);
    const way = requests > 1 ? times.joined : times.alone;
    way.add(milliseconds / requests);
    if (requests === 1) times.leastMs = Math.min(times.leastMs, milliseconds);
    if (times.alone.value === undefined || times.joined.value === undefined) return;
    const isJoined = isJoinedFaster(times);
    if (isJoined !== times.wasJoined) times.tryAgainAfter = TRY_AGAIN_AFTER.first;
    times.wasJoined = isJoined;
    times.calls += 1;
    if (times.calls < times.tryAgainAfter) return;
    times.calls = 0;
    times.tryAgainAfter = Math.min(TRY_AGAIN_AFTER.most, 2 * times.tryAgainAfter);
    times[isJoined ? 'alone' : 'joined'] = new RecentMedian(COMPARED_CALLS);
  }

  #timesOf(bytes: number): Times {
    let times = this.#sizes.get(bytes);
    if (times === undefined) {
      if (this.#sizes.size >= MOST_SIZES) this.#sizes.clear();
      const { first } = TRY_AGAIN_AFTER;
      times = {
        alone: new RecentMedian(COMPARED_CALLS),
        joined: new RecentMedian(COMPARED_CALLS),
        leastMs: Number.POSITIVE_INFINITY,
        calls: 0,
        tryAgainAfter: first,
        wasJoined: false,
      };
      this.#sizes.set(bytes, times);
    }
    return times;
  }
}

function isJoinedFaster({ alone, joined }: Times): boolean {
  return (joined.value ?? 0) < (1 - LEAST_GAIN) * (alone.value ?? 0);
}
