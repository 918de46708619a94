import type { Clock } from '../../common/clock.js';
import { Autoscaler, type ResolvedAutoscaling, SAMPLE_PERIOD_MS } from './autoscaler.js';

/** What is scaled. */
export interface Scaled {
  /** Requests waiting or ongoing at this moment. */
  requests(): number;
  /** How many replicas there are to be. */
  replicas(): number;
  scaleTo(replicas: number): void;
}

/** Asks an {@link Autoscaler} at regular times, and does what it says. */
export class AutoscalingLoop {
  readonly #scaled: Scaled;
  readonly #clock: Clock;
  #cancel: (() => void) | undefined;

  constructor(scaled: Scaled, clock: Clock) {
    this.#scaled = scaled;
    this.#clock = clock;
  }

  /** Begins to count anew. */
  start(options: ResolvedAutoscaling): void {
    this.stop();
    const autoscaler = new Autoscaler(options);
    const sample = () => {
      this.#cancel = this.#clock.schedule(sample, SAMPLE_PERIOD_MS);
      const { requests, replicas, scaleTo } = this.#scaled;
      const [current, wanted] = [replicas(), autoscaler.sample(this.#clock.now(), replicas(), requests())];
      if (wanted !== current) scaleTo(wanted);
    };
    this.#cancel = this.#clock.schedule(sample, SAMPLE_PERIOD_MS);
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}
