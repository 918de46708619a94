import { expectedMs, LatencyFit } from '../../common/estimates/latency-fit.js';
import { MovingAverage } from './moving-average.js';

/** The guess before the first load of a model: a fixed cost, and a speed at which its bytes are read and prepared. */
const LOAD_BASE_MS = 2;
const LOAD_BYTES_PER_MS = 250_000;

/** The expected times of one model's loads and calls, from what they took so far. */
export class ExpectedTimes {
  readonly calls = new LatencyFit();
  readonly #bytes: number;
  readonly #load = new MovingAverage();

  /** @param bytes size of the model, for a guess before its first load. */
  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** Whether `loadMs` is more than a guess. */
  get isLoadMeasured(): boolean {
    return this.#load.value !== undefined;
  }

  /** Milliseconds of a load. */
  get loadMs(): number {
    return this.#load.value ?? LOAD_BASE_MS + this.#bytes / LOAD_BYTES_PER_MS;
  }

  /** Milliseconds of a call for one row; 0 before the first. */
  get runMs(): number {
    const estimate = this.calls.estimate();
    return estimate === undefined ? 0 : expectedMs(estimate, 1);
  }

  addLoad(milliseconds: number): void {
    this.#load.add(milliseconds);
  }
}
