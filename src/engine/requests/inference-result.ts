import type { RoutedResult } from '../../routing/pending-request.js';
import type { Outputs } from '../../tensors/tensor.js';
import type { Destination } from './targets.js';

/** What one request was answered with, and how it fared. */
export interface InferenceResult<Result = Outputs> {
  readonly outputs: Result;
  readonly model: string;
  readonly version: number;
  readonly deployment: string;
  readonly replica: string;
  /** Requests that shared its onnxruntime call. */
  readonly batchSize: number;
  readonly timings: InferenceTimings;
}

/** Milliseconds. */
export interface InferenceTimings {
  /** From the call to a replica. */
  readonly queueMs: number;
  /** Waiting for the model's load; 0 when the replica had it. */
  readonly loadMs: number;
  /** In onnxruntime, or in the handler. */
  readonly runMs: number;
  /** From the call to the answer. */
  readonly totalMs: number;
}

/** Says how to make the caller's value of what a dispatcher answers. */
export type ResultReader<T> = (destination: Destination) => (result: RoutedResult) => T;

const outputsOf = ({ outputs }: RoutedResult): Outputs => outputs;

export const toOutputs: ResultReader<Outputs> = () => outputsOf;

export const toNothing: ResultReader<void> = () => () => undefined;

export const toResult: ResultReader<InferenceResult> =
  ({ deployment, model, isHandled }) =>
  ({ outputs, replica, batchSize, queueMs, loadMs, runMs, totalMs }) => {
    const version = isHandled ? 1 : model.version;
    const timings = { queueMs, loadMs, runMs, totalMs };
    return { outputs, model: model.id, version, deployment: deployment.name, replica, batchSize, timings };
  };
