import type { Clock } from '../../common/clock.js';

/** Bounds the time of a replica's runs. A load has a bound of its own, and stops this clock. */
export class RunTimer {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #overrun: () => void;
  #cancel: (() => void) | undefined;
  #run: number | undefined;
  #loads = 0;

  /** @param limitMs -1: no bound. @param overrun called for a run that took longer; {@link restart} counts anew. */
  constructor(clock: Clock, limitMs: number, overrun: () => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#overrun = overrun;
  }

  /** Call it after each message and answer. @param run number of the oldest run without an answer. */
  watch(run: number | undefined): void {
    if (this.#limitMs === -1 || run === this.#run) return;
    this.#run = run;
    this.restart();
  }

  loadBegan(): void {
    this.#loads += 1;
    this.restart();
  }

  loadEnded(): void {
    this.#loads = Math.max(0, this.#loads - 1);
    this.restart();
  }

  stop(): void {
    this.watch(undefined);
  }

  /** The present run has its whole time from now on. */
  restart(): void {
    this.#cancel?.();
    const isRunning = this.#limitMs !== -1 && this.#run !== undefined && this.#loads === 0;
    this.#cancel = isRunning ? this.#clock.schedule(this.#overrun, this.#limitMs) : undefined;
  }
}
