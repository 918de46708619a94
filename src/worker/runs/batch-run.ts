import { InfermuxError, show } from '../../common/errors.js';
import { type ErrorRecord, toErrorRecord } from '../../common/values/error-record.js';
import { type Call, splitLarge, splitOutputs, toPacked } from '../../protocol/call-answers.js';
import type { RequestGroup } from '../../protocol/messages.js';
import { joinedFeeds, singleFeeds, totalRows } from '../../protocol/request-groups.js';
import { type Outputs, setProperty, type Tensor, type TensorFeeds } from '../../tensors/tensor.js';
import { CallMemory } from './call-memory.js';
import { areSameFeeds, whyDifferent } from './compare.js';

/** Runs feeds: a session. */
export interface Runner {
  run(feeds: TensorFeeds, outputs: readonly string[] | undefined): Promise<Outputs>;
}

/** A group of requests to run as one call. */
export type Batch = RequestGroup & { readonly rows: number | readonly number[] };

export interface BatchRun {
  readonly calls: readonly Call[];
  /** How the batch's results differ from single runs; null when they agree, undefined when this is not known. */
  readonly mismatch: string | null | undefined;
}

/** Runs each request of the group as a call of its own. */
export async function runSingly(runner: Runner, group: RequestGroup, now: () => number): Promise<Call[]> {
  const calls: Call[] = [];
  for (const feeds of singleFeeds(group)) {
    const startedAt = now();
    let outputs: Outputs | undefined;
    let error: ErrorRecord | undefined;
    try {
      outputs = await runner.run(feeds, group.outputs);
    } catch (cause) {
      error = toErrorRecord(cause);
    }
    calls.push({ requests: 1, runMs: now() - startedAt, outputs, error });
  }
  return calls;
}

/**
 * Runs the batch as one call. If the call fails, or its outputs cannot be split, the requests run one by one, so that
 * each has the answer that it would have alone.
 *
 * @param compare compare the results with those of single runs: all outputs of the model, even if fewer are wanted.
 */
export async function runBatch(runner: Runner, batch: Batch, compare: boolean, now: () => number): Promise<BatchRun> {
  const asked = compare ? { ...batch, outputs: undefined } : batch;
  const startedAt = now();
  const memory = new CallMemory();
  let outputs: Outputs;
  try {
    outputs = await runner.run(
      joinedFeeds(asked, (type, parts) => memory.copy(type, parts)),
      asked.outputs,
    );
  } catch (error) {
    return afterFailure(error, await runSingly(runner, batch, now));
  } finally {
    memory.release();
  }
  const { requests, rows } = batch;
  const unsplittable = whyNotSplit(outputs, totalRows(rows, requests));
  const parts = unsplittable === undefined ? splitLarge(outputs, requests, rows) : undefined;
  const call: Call = { requests, runMs: now() - startedAt, outputs, error: undefined, parts };
  if (unsplittable === undefined && !compare) return { calls: [call], mismatch: undefined };
  const calls = await runSingly(runner, asked, now);
  const wanted = (all: readonly Call[]) => all.map((one) => withOutputs(one, batch.outputs));
  // A thread that is told to stop runs nothing more. That says nothing about the model.
  if (calls.some((single) => single.error?.code === 'REPLICA_FAILED')) return { calls, mismatch: undefined };
  const mismatch = unsplittable ?? whyUnlike(splitOutputs(toPacked(outputs), requests, rows), calls);
  return mismatch === undefined ? { calls: wanted([call]), mismatch: null } : { calls: wanted(calls), mismatch };
}

function withOutputs(call: Call, names: readonly string[] | undefined): Call {
  if (names === undefined || call.outputs === undefined) return call;
  const outputs: Record<string, Tensor> = {};
  for (const name of names) setProperty(outputs, name, call.outputs[name] as Tensor);
  return { requests: call.requests, runMs: call.runMs, outputs, error: call.error, parts: call.parts };
}

/** Returns the feeds that all requests of the batch repeat, if so: such a batch proves little about differing rows. */
export function uniformFeeds(batch: Batch): TensorFeeds | undefined {
  const [first, ...others] = singleFeeds(batch);
  return first !== undefined && others.every((other) => areSameFeeds(first, other)) ? first : undefined;
}

/** If no request fails alone, the model cannot be batched; otherwise a request was bad. */
function afterFailure(error: unknown, calls: Call[]): BatchRun {
  const isModels = error instanceof InfermuxError && error.code === 'INFERENCE_FAILED';
  const doesNotBear = isModels && calls.every((call) => call.outputs !== undefined);
  return { calls, mismatch: doesNotBear ? `it fails, though no request does alone: ${error.message}` : undefined };
}

function whyNotSplit(outputs: Outputs, rows: number): string | undefined {
  for (const [name, { dims }] of Object.entries(outputs)) {
    if (dims[0] !== rows) return `output ${show(name)} has dims [${dims}] for ${rows} rows`;
  }
  return undefined;
}

function whyUnlike(outputs: readonly Outputs[], calls: readonly Call[]): string | undefined {
  // A request that ran in the batch and fails alone cannot be compared, and must not count as proven.
  const failed = calls.find((call) => call.outputs === undefined);
  if (failed !== undefined) return `a request fails alone: ${failed.error?.message}`;
  return whyDifferent(
    outputs,
    calls.map((call) => call.outputs as Outputs),
  );
}
