import type { EvictableSession, Eviction, EvictionName } from '../../contracts/eviction.js';

/** @param now milliseconds. */
export function createEviction(name: EvictionName, now: () => number): Eviction {
  return name === 'lru' ? new LruEviction() : new CostAwareEviction(now);
}

/** The least recently used one. */
class LruEviction implements Eviction {
  requested(): void {}

  first<S extends EvictableSession>([first]: readonly [S, ...S[]]): S {
    return first;
  }
}

/** The rates of so many models that are not there are kept; then those of the least asked for are forgotten. */
const MOST_RATES = 8_192;
/** A request counts half after so many times as long as sessions stay. */
const HALF_LIVES = 3;
/** How much the newest gap between two evictions counts. */
const GAP_WEIGHT = 0.05;

/**
 * The one whose place is worth least: requests for it, older ones forgotten exponentially, times what a load of it costs, over
 * its bytes. It is the greedy rule for caches of unequal costs and sizes (Cao and Irani 1997; Cherkasova 1998 with
 * frequencies), with a decay in the place of its inflation (as Lee et al. 2001 join recency and frequency).
 *
 * The decay follows how long sessions stay: the number of sessions times the time from one eviction to the next, by Little's
 * law. So it is as slow as it can be, where hardly any leave, and soon follows another popularity, where many do.
 */
class CostAwareEviction implements Eviction {
  readonly #rates = new Map<string, { value: number; at: number }>();
  readonly #now: () => number;
  #lastAt: number | undefined;
  #gapMs = 0;
  #gaps = 0;
  /** Whether requests came since a session had to leave. */
  #isRequestedSince = false;
  #halfLifeMs = Number.POSITIVE_INFINITY;

  constructor(now: () => number) {
    this.#now = now;
  }

  requested(key: string, requests: number): void {
    this.#isRequestedSince = true;
    const now = this.#now();
    const rate = this.#rates.get(key);
    if (rate === undefined) {
      if (this.#rates.size >= MOST_RATES) this.#forgetHalf(now);
      this.#rates.set(key, { value: requests, at: now });
      return;
    }
    rate.value = this.#decayed(rate, now) + requests;
    rate.at = now;
  }

  first<S extends EvictableSession>(sessions: readonly [S, ...S[]]): S {
    const now = this.#now();
    this.#learn(sessions.length, now);
    let [first] = sessions;
    let least = Number.POSITIVE_INFINITY;
    for (const session of sessions) {
      const rate = this.#rates.get(session.key);
      const value = ((rate === undefined ? 0 : this.#decayed(rate, now)) * session.loadMs) / Math.max(1, session.bytes);
      if (value >= least) continue;
      first = session;
      least = value;
    }
    return first;
  }

  /** One of so many sessions leaves. */
  #learn(sessions: number, now: number): void {
    // Several may have to leave for one that comes.
    if (!this.#isRequestedSince) return;
    this.#isRequestedSince = false;
    if (this.#lastAt !== undefined) {
      this.#gaps += 1;
      // The mean of all, as long as they are few.
      const weight = Math.max(GAP_WEIGHT, 1 / this.#gaps);
      this.#gapMs += weight * (now - this.#lastAt - this.#gapMs);
      this.#halfLifeMs = HALF_LIVES * sessions * this.#gapMs;
    }
    this.#lastAt = now;
  }

  #forgetHalf(now: number): void {
    const byRate = [...this.#rates].sort(([, left], [, right]) => this.#decayed(left, now) - this.#decayed(right, now));
    for (const [key] of byRate.slice(0, MOST_RATES / 2)) this.#rates.delete(key);
  }

  #decayed({ value, at }: { value: number; at: number }, now: number): number {
    return now === at ? value : value * 2 ** ((at - now) / this.#halfLifeMs);
  }
}
