import type { EvictableSession, Eviction, EvictionName } from '../../contracts/eviction.js';

/** Creates the policy of this name. @param now milliseconds. */
export function createEviction(name: EvictionName, now: () => number): Eviction {
  return name === 'lru' ? new LruEviction() : new CostAwareEviction(now);
}

/** Evicts the least recently used session. */
class LruEviction implements Eviction {
  requested(): void {}

  first<S extends EvictableSession>([first]: readonly [S, ...S[]]): S {
    return first;
  }
}

/** Most models whose request rates are kept, loaded or not; beyond it the half with the lowest rates is forgotten. */
const MOST_RATES = 8_192;
/** The half-life of a request, in multiples of the time for which sessions stay. */
const HALF_LIVES = 3;
/** Weight of the newest gap between two evictions in the mean gap. */
const GAP_WEIGHT = 0.05;

/**
 * Evicts the least valuable session. The value is the session's request rate, with exponential decay, times the cost of
 * a load, over its bytes. This is the greedy rule for caches of unequal costs and sizes (Cao and Irani 1997; Cherkasova
 * 1998 with frequencies), with a decay instead of its inflation (as Lee et al. 2001 join recency and frequency).
 *
 * The decay follows how long sessions stay: by Little's law, the number of sessions times the time between two
 * evictions. So it is as slow as it can be when evictions are rare, and follows a changed popularity soon when they are
 * frequent.
 */
class CostAwareEviction implements Eviction {
  readonly #rates = new Map<string, { value: number; at: number }>();
  readonly #now: () => number;
  #lastAt: number | undefined;
  #gapMs = 0;
  #gaps = 0;
  /** Whether requests came since the last eviction. */
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

  /** Learns from the eviction of one of so many sessions. */
  #learn(sessions: number, now: number): void {
    // One load may evict several sessions: they count as one eviction.
    if (!this.#isRequestedSince) return;
    this.#isRequestedSince = false;
    if (this.#lastAt !== undefined) {
      this.#gaps += 1;
      // As long as gaps are few, this is their plain mean.
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
