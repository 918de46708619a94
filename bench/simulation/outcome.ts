import type { Setting } from './setting.js';
import { SERVICE_MS } from './workload.js';

/** Share of first requests that are not reported, except in a cold start. */
const WARM_UP_SHARE = 1 / 3;
/**
 * A simulation does not settle when requests of the last third take more than `GROWTH` times as long as those of the
 * second third, and more than `GROWTH_SERVICES` services longer.
 */
const GROWTH = 3;
const GROWTH_SERVICES = 10;

/** The outcome of one simulation. Times in services. */
export interface Outcome {
  readonly mean: number;
  readonly p99: number;
  /** Sessions loaded per thousand requests. */
  readonly loads: number;
  /** Time of these loads per request. */
  readonly loadTime: number;
  /** Accepted requests that were answered with an error. */
  readonly lost: number;
  /** Whether a request was ever refused because too many waited. */
  readonly isOverrun: boolean;
  /** Whether the simulation is not overrun, all requests had an answer, and latency does not grow and grow. */
  readonly isSettled: boolean;
}

/** Records the outcomes of the requests of a simulation. */
export class Outcomes {
  readonly #requests: number;
  readonly #warmUp: number;
  /** Milliseconds by request; NaN for a request without an answer. */
  readonly #times: Float64Array;
  #arrived = 0;
  #settled = 0;
  #loads = 0;
  #loadMs = 0;
  #refused = 0;
  #lost = 0;

  constructor({ requests, trouble }: Setting) {
    this.#requests = requests;
    this.#warmUp = trouble === 'cold' ? 0 : Math.floor(WARM_UP_SHARE * requests);
    this.#times = new Float64Array(requests).fill(Number.NaN);
  }

  /** @returns the request's number. */
  arrived(): number {
    this.#arrived += 1;
    return this.#arrived - 1;
  }

  answered(request: number, totalMs: number): void {
    this.#settled += 1;
    this.#times[request] = totalMs;
  }

  refused(): void {
    this.#settled += 1;
    this.#refused += 1;
  }

  /** The answer to a request was an error. */
  lost(): void {
    this.#settled += 1;
    this.#lost += 1;
  }

  loaded(loadMs: number): void {
    if (this.#arrived <= this.#warmUp) return;
    this.#loads += 1;
    this.#loadMs += loadMs;
  }

  get isAllArrived(): boolean {
    return this.#arrived >= this.#requests;
  }

  /** Whether all requests have their answer, or the simulation is known not to settle. */
  get isOver(): boolean {
    return this.#settled >= this.#requests || this.#refused > 0;
  }

  result(): Outcome {
    const measured = Math.max(1, this.#arrived - this.#warmUp);
    const times = this.#times.slice(this.#warmUp, this.#arrived).filter((time) => !Number.isNaN(time));
    const third = Math.floor(this.#requests / 3);
    const [second, last] = [mean(this.#times.slice(third, 2 * third)), mean(this.#times.slice(2 * third))];
    const isOverrun = this.#refused > 0;
    const isGrowing = last > GROWTH * second && last > second + GROWTH_SERVICES * SERVICE_MS;
    const average = mean(times);
    times.sort();
    return {
      mean: average / SERVICE_MS,
      p99: (times[Math.floor(0.99 * times.length)] ?? Number.NaN) / SERVICE_MS,
      loads: (1_000 * this.#loads) / measured,
      loadTime: this.#loadMs / measured / SERVICE_MS,
      lost: this.#lost,
      isOverrun,
      isSettled: !isOverrun && this.#settled === this.#requests && !isGrowing,
    };
  }
}

/** Returns the mean of the requests with an answer. */
function mean(all: Float64Array): number {
  const times = all.filter((time) => !Number.isNaN(time));
  return times.reduce((sum, time) => sum + time, 0) / times.length;
}
