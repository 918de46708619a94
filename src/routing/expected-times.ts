import { MovingAverage } from './moving-average.js';

/** Before a model was loaded once: what every load costs, and how fast its bytes are read and prepared. */
const LOAD_BASE_MS = 2;
const LOAD_BYTES_PER_MS = 250_000;

/** What one model's loads and runs are expected to take, from what they took. */
export class ExpectedTimes {
  readonly #bytes: number;
  readonly #load = new MovingAverage();
  readonly #run = new MovingAverage();

  /** @param bytes size of the model, for a guess before its first load. */
  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  /** Milliseconds. */
  get loadMs(): number {
    return this.#load.value ?? LOAD_BASE_MS + this.#bytes / LOAD_BYTES_PER_MS;
  }

  /** Milliseconds; undefined before the first run. */
  get runMs(): number | undefined {
    return this.#run.value;
  }

  addLoad(milliseconds: number): void {
    this.#load.add(milliseconds);
  }

  addRun(milliseconds: number): void {
    this.#run.add(milliseconds);
  }
}
