import type { Setting } from './setting.js';
import { SERVICE_MS } from './workload.js';

/** Of the first requests nothing is told, but where all replicas are empty at first. */
const WARM_UP_SHARE = 1 / 3;
/** Where requests of the last third take so many times as long as those of the second, and so many services more, it does not settle. */
const GROWTH = 3;
const GROWTH_SERVICES = 10;

/** How one simulation ended. Times in services. */
export interface Outcome {
  readonly mean: number;
  readonly p99: number;
  /** Sessions loaded for a thousand requests. */
  readonly loads: number;
  /** Time of these loads for each request. */
  readonly loadTime: number;
  /** Requests that had an error for an answer, of those that were let in. */
  readonly lost: number;
  /** Whether more waited than may at some moment. */
  readonly isOverrun: boolean;
  /** Whether it is not overrun, all had an answer, and requests do not take longer and longer. */
  readonly isSettled: boolean;
}

/** Notes what became of the requests of a simulation. */
export class Outcomes {
  readonly #requests: number;
  readonly #warmUp: number;
  /** Milliseconds by request; NaN for those without an answer. */
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

  /** @returns its number. */
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

  /** Its answer was an error. */
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

  /** All have their answer, or it is known that it does not settle. */
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

/** Of those that have an answer. */
function mean(all: Float64Array): number {
  const times = all.filter((time) => !Number.isNaN(time));
  return times.reduce((sum, time) => sum + time, 0) / times.length;
}
