import { checkOptions, isInteger, isMilliseconds, type Rule, satisfies } from '../../common/checks.js';
import { InfermuxError } from '../../common/errors.js';

export interface AutoscalingOptions {
  /** Minimum number of replicas. 0: none while there are no requests; the first request starts one. Default 1. */
  readonly minReplicas?: number | undefined;
  /** Most replicas. */
  readonly maxReplicas: number;
  /** Target of pending and ongoing requests for each replica, on average. Default 2. */
  readonly targetOngoingRequests?: number | undefined;
  /** Milliseconds of uninterrupted need for more replicas before some are added. Default 30000. */
  readonly upscaleDelayMs?: number | undefined;
  /** Milliseconds of uninterrupted need for fewer replicas before some are removed. Default 600000. */
  readonly downscaleDelayMs?: number | undefined;
  /** Share of the needed increase that is made at once; above 1 it overshoots. Default 1. */
  readonly upscalingFactor?: number | undefined;
  /** Share of the needed decrease that is made at once. Default 1. */
  readonly downscalingFactor?: number | undefined;
  /** Milliseconds over which the number of requests is averaged. Default 30000. */
  readonly lookBackMs?: number | undefined;
}

/** The options with every default filled in. */
export type ResolvedAutoscaling = { readonly [K in keyof AutoscalingOptions]-?: NonNullable<AutoscalingOptions[K]> };

/** Milliseconds between two counts of the requests. */
export const SAMPLE_PERIOD_MS = 1_000;

const isFactor = satisfies(
  (value) => typeof value === 'number' && value > 0 && value <= 100,
  'a number above 0 and at most 100',
);

/**
 * Checks the options and fills in the defaults.
 *
 * @param where names the options in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value.
 */
export function readAutoscaling(where: string, given: AutoscalingOptions, mostReplicas: number): ResolvedAutoscaling {
  const rules: Readonly<Record<keyof AutoscalingOptions, Rule>> = {
    minReplicas: isInteger({ lowest: 0, highest: mostReplicas }),
    maxReplicas: isInteger({ lowest: 1, highest: mostReplicas }),
    targetOngoingRequests: satisfies((value) => typeof value === 'number' && value > 0, 'a number above 0'),
    upscaleDelayMs: isMilliseconds({ lowest: 0 }),
    downscaleDelayMs: isMilliseconds({ lowest: 0 }),
    upscalingFactor: isFactor,
    downscalingFactor: isFactor,
    lookBackMs: isMilliseconds({ lowest: 1 }),
  };
  const options = checkOptions(where, given, rules);
  const { minReplicas = 1, maxReplicas } = options;
  if (maxReplicas === undefined) throw new InfermuxError('INVALID_ARGUMENT', `${where}.maxReplicas must be named`);
  if (minReplicas > maxReplicas) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `${where}: minReplicas ${minReplicas} is above maxReplicas ${maxReplicas}`,
    );
  }
  return {
    minReplicas,
    maxReplicas,
    targetOngoingRequests: options.targetOngoingRequests ?? 2,
    upscaleDelayMs: options.upscaleDelayMs ?? 30_000,
    downscaleDelayMs: options.downscaleDelayMs ?? 600_000,
    upscalingFactor: options.upscalingFactor ?? 1,
    downscalingFactor: options.downscalingFactor ?? 1,
    lookBackMs: options.lookBackMs ?? 30_000,
  };
}

/** Largest floating-point error of an average of equal integers. */
const ROUNDING = 1e-9;

/**
 * Returns the number of replicas for the requests: current + factor × (requests / target − current), rounded up, within
 * the bounds. The rule is Ray Serve's.
 *
 * @param requests pending and ongoing requests, on average.
 */
export function desiredReplicas(options: ResolvedAutoscaling, current: number, requests: number): number {
  const { minReplicas, maxReplicas, targetOngoingRequests, upscalingFactor, downscalingFactor } = options;
  const distance = requests / targetOngoingRequests - current;
  const factor = distance > 0 ? upscalingFactor : downscalingFactor;
  const desired = Math.ceil(current + factor * distance - ROUNDING);
  return Math.min(maxReplicas, Math.max(minReplicas, desired));
}

/** Decides when a deployment gets more or fewer replicas. The caller passes the time. */
export class Autoscaler {
  readonly options: ResolvedAutoscaling;
  readonly #samples: { readonly at: number; readonly requests: number }[] = [];
  /** Since when more, or fewer, replicas are needed without interruption. */
  #since: { readonly direction: number; readonly at: number } | undefined;

  constructor(options: ResolvedAutoscaling) {
    this.options = options;
  }

  /**
   * Counts the requests. Call it every {@link SAMPLE_PERIOD_MS}.
   *
   * @param requests pending and ongoing requests at this moment.
   * @returns the new number of replicas; `current` for no change.
   */
  sample(now: number, current: number, requests: number): number {
    const { lookBackMs, upscaleDelayMs, downscaleDelayMs } = this.options;
    this.#samples.push({ at: now, requests });
    while ((this.#samples[0]?.at ?? now) <= now - lookBackMs) this.#samples.shift();
    const sum = this.#samples.reduce((total, sample) => total + sample.requests, 0);
    const desired = desiredReplicas(this.options, current, sum / this.#samples.length);
    const direction = Math.sign(desired - current);
    if (this.#since?.direction !== direction) this.#since = { direction, at: now };
    const delayMs = direction > 0 ? upscaleDelayMs : downscaleDelayMs;
    if (direction === 0 || now - this.#since.at < delayMs) return current;
    this.#since = undefined;
    return desired;
  }
}
