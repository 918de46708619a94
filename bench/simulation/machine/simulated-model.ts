import type { RoutedModel } from '../../../dist/routing/pending-request.js';
import type { ModelMetadata, ReadFeeds } from '../../../dist/tensors/tensor.js';

/** A model that takes time on the virtual clock. */
export interface SimulatedModel extends RoutedModel {
  readonly loadMs: number;
  /** Share of a run that several threads divide among them, 0 to 1. Default 0. */
  readonly parallel?: number;
  /** Share of a run that does not grow with the requests of a batch, 0 to 1. Default: requests are not joined. */
  readonly fixed?: number;
}

const ROWS = { name: 'rows', isTensor: true, type: 'float64', shape: ['batch'] } as const;

/** Inputs and outputs as a load reports them. */
export function metadataOf({ fixed }: SimulatedModel): ModelMetadata {
  const values = fixed === undefined ? [] : [ROWS];
  return { inputs: values, outputs: values, omittedOutputs: [] };
}

/** The feeds of a request that takes so long with one thread: one row, which says it. */
export function feedsOf(serviceMs: number): ReadFeeds {
  return { [ROWS.name]: { type: ROWS.type, dims: [1], data: Float64Array.of(serviceMs) } };
}

export function serviceMsOf(feeds: ReadFeeds): number {
  return feeds[ROWS.name]?.data[0] as number;
}

/** Milliseconds of a run on cores of its own that takes `serviceMs` with one thread (Amdahl's law). */
export function runMsOf({ parallel = 0 }: SimulatedModel, serviceMs: number, threads: number): number {
  return threads === 1 ? serviceMs : serviceMs * (1 - parallel + parallel / threads);
}

/** Milliseconds that requests of one batch would take with one thread; each takes so long alone. */
export function batchMsOf({ fixed = 0 }: SimulatedModel, serviceMs: readonly number[]): number {
  const longest = Math.max(...serviceMs);
  const all = serviceMs.reduce((sum, milliseconds) => sum + milliseconds, 0);
  return fixed * longest + (1 - fixed) * all;
}
