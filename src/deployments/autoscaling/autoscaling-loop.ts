import type { Clock } from '../../common/clock.js';
import { Autoscaler, type ResolvedAutoscaling, SAMPLE_PERIOD_MS } from './autoscaler.js';

/** The deployment to scale. */
export interface Scaled {
  /** Pending and ongoing requests at this moment. */
  requests(): number;
  /** The target number of replicas. */
  replicas(): number;
  scaleTo(replicas: number): void;
}

/** Samples an {@link Autoscaler} every {@link SAMPLE_PERIOD_MS}, and scales as it decides. */
export class AutoscalingLoop {
  readonly #scaled: Scaled;
  readonly #clock: Clock;
  #cancel: (() => void) | undefined;

  constructor(scaled: Scaled, clock: Clock) {
    this.#scaled = scaled;
    this.#clock = clock;
  }

  /** Begins to count from zero with these options; undefined: no autoscaling. */
  configure(options: ResolvedAutoscaling | undefined): void {
    this.stop();
    if (options === undefined) return;
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
