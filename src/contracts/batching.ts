import { checkOptions, isBoolean, isInteger, isMilliseconds, type Rule } from '../common/checks.js';
import { InfermuxError, show } from '../common/errors.js';
import { expectedMs, type LatencyEstimate, largestWithin } from '../common/estimates/latency-fit.js';
import type { ModelMetadata, ValueMetadata } from '../tensors/tensor.js';

export interface BatchingOptions {
  /**
   * Maximum number of rows (along axis 0) of one call, or of requests in a handler's `handleBatch`. A request with more
   * rows runs alone. Default 128.
   */
  readonly maxSize?: number | undefined;
  /**
   * Maximum milliseconds that a request waits for others to form a batch. It never waits longer than half of the time
   * to its deadline, and does not wait if there are enough rows for a full batch. The batch then goes to one replica.
   * Default 0: no waiting.
   */
  readonly maxWaitMs?: number | undefined;
  /**
   * Maximum milliseconds of one call. Batches become as large as this allows, according to the times of recent calls.
   * Default: 5, or 1.9 times as long as a request alone, whichever is longer.
   */
  readonly targetLatencyMs?: number | undefined;
  /** Whether the first batches of a model are compared with single runs. Default true. */
  readonly verify?: boolean | undefined;
}

/**
 * `'auto'`: batches models whose inputs and outputs all have a free first dimension with the same name. `false`: batches
 * no model. An object: like `'auto'`, with these settings. If it is set for one model, the free first dimensions of that
 * model may also have different names or none.
 */
export type Batching = 'auto' | false | BatchingOptions;

/** How the requests of one model are joined. */
export interface BatchingPolicy {
  readonly isEnabled: boolean;
  /** Whether the model has batching options of its own: then free first dimensions need not have the same name. */
  readonly isOwn: boolean;
  readonly maxSize: number;
  readonly maxWaitMs: number;
  /** Undefined: chosen by the time of a request alone. */
  readonly targetLatencyMs: number | undefined;
  readonly verify: boolean;
}

/**
 * Without a `targetLatencyMs` a batch may take this long, or this many times as long as its first request alone. So two
 * requests are joined when that saves at least a twentieth of their time.
 */
const BATCH_MS = 5;
const BATCH_TO_SINGLE = 1.9;

const RULES: Readonly<Record<keyof BatchingOptions, Rule>> = {
  maxSize: isInteger({ lowest: 1 }),
  maxWaitMs: isMilliseconds({ lowest: 0 }),
  targetLatencyMs: isMilliseconds({ lowest: 0 }),
  verify: isBoolean,
};

const AUTO: BatchingPolicy = {
  isEnabled: true,
  isOwn: false,
  maxSize: 128,
  maxWaitMs: 0,
  targetLatencyMs: undefined,
  verify: true,
};

/**
 * @param where names the option in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value.
 */
export function checkBatching(where: string, batching: unknown): Batching {
  if (batching === 'auto' || batching === false) return batching;
  if (batching === null || typeof batching !== 'object' || Array.isArray(batching)) {
    const expected = "'auto', false or { maxSize, maxWaitMs, targetLatencyMs, verify }";
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must be ${expected}, got ${show(batching)}`);
  }
  return checkOptions(where, batching as BatchingOptions, RULES);
}

/** Merges the settings key by key; the model's own setting goes before the engine's. */
export function batchingPolicy(engine: Batching, own: Batching | undefined): BatchingPolicy {
  const isEnabled = (own ?? engine) !== false;
  return { ...AUTO, ...settings(engine), ...settings(own), isEnabled, isOwn: typeof own === 'object' };
}

function settings(batching: Batching | undefined): Partial<BatchingPolicy> {
  if (typeof batching !== 'object') return {};
  return Object.fromEntries(Object.entries(batching).filter(([, value]) => value !== undefined));
}

/**
 * Returns the milliseconds that a batch may take.
 *
 * @param targetLatencyMs of the policy.
 * @param estimate of the model's calls, if there is one.
 * @param rows of the batch's first request.
 */
export function mostBatchMs(
  targetLatencyMs: number | undefined,
  estimate: LatencyEstimate | undefined,
  rows: number,
): number {
  if (targetLatencyMs !== undefined) return targetLatencyMs;
  if (estimate === undefined) return BATCH_MS;
  return Math.max(BATCH_MS, BATCH_TO_SINGLE * expectedMs(estimate, Math.max(1, rows)));
}

/** Returns the rows of the largest batch that takes no longer; one while nothing is known of the model's calls. */
export function mostRowsOf(
  { maxSize }: Pick<BatchingPolicy, 'maxSize'>,
  estimate: LatencyEstimate | undefined,
  batchMs: number,
): number {
  return estimate === undefined ? 1 : Math.min(maxSize, largestWithin(estimate, batchMs));
}

/**
 * Returns why requests for the model cannot be joined on axis 0; undefined when they can.
 *
 * @param isOwn whether free first dimensions count as the same although their names differ or are missing.
 */
export function whyNotBatched({ inputs, outputs }: ModelMetadata, isOwn = false): string | undefined {
  if (inputs.length === 0) return 'it has no inputs';
  const values = [
    ...inputs.map((value) => ({ value, what: `input ${show(value.name)}` })),
    ...outputs.map((value) => ({ value, what: `output ${show(value.name)}` })),
  ];
  const [first] = values;
  const inner = new Set(inputs.flatMap(({ shape }) => shape.slice(1)));
  for (const { value, what } of values) {
    const reason = whyNotFree(value, what, isOwn);
    if (reason !== undefined) return reason;
    if (isOwn) continue;
    if (first !== undefined && value.shape[0] !== first.value.shape[0]) {
      return `${what} has ${show(value.shape[0])} as its first dimension, ${first.what} has ${show(first.value.shape[0])}`;
    }
    const free = value.shape.slice(1).find((size) => typeof size === 'string' && !isKnown(size, value.shape, inner));
    if (free !== undefined) return `${what} has a free dimension ${show(free)}, which may depend on the other rows`;
  }
  return undefined;
}

/** Whether a dimension after the first follows from the request alone: an input has the same one after its first. */
function isKnown(size: string, shape: readonly (number | string)[], inner: ReadonlySet<number | string>): boolean {
  return inner.has(size) && size !== shape[0];
}

function whyNotFree({ shape }: ValueMetadata, what: string, isOwn: boolean): string | undefined {
  const [rows] = shape;
  // onnxruntime reports "no shape" and "scalar" in the same way.
  if (rows === undefined) return isOwn ? undefined : `${what} is a scalar or declares no shape`;
  if (typeof rows === 'number') return `the first dimension of ${what} is always ${rows}`;
  if (rows === '' && !isOwn) return `the first dimension of ${what} is free, but has no name`;
  return undefined;
}
