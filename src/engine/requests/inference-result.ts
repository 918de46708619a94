import type { RoutedResult } from '../../routing/pending-request.js';
import type { Outputs } from '../../tensors/tensor.js';
import type { Destination } from './targets.js';

/** The answer to one request, with the model, replica and times that it took. */
export interface InferenceResult<Result = Outputs> {
  readonly outputs: Result;
  readonly model: string;
  readonly version: number;
  readonly deployment: string;
  readonly replica: string;
  /** Requests that shared the onnxruntime call, this one included. */
  readonly batchSize: number;
  readonly timings: InferenceTimings;
}

/** Times of one request, in milliseconds. */
export interface InferenceTimings {
  /** From the call until a replica was given the request. */
  readonly queueMs: number;
  /** Waiting for the load of the model; 0 when the replica had the model. */
  readonly loadMs: number;
  /** In onnxruntime, or in the handler. */
  readonly runMs: number;
  /** From the call to the answer. */
  readonly totalMs: number;
}

/** Makes the caller's value from a dispatcher's result. */
export type ResultReader<T> = (destination: Destination) => (result: RoutedResult) => T;

const outputsOf = ({ outputs }: RoutedResult): Outputs => outputs;

export const toOutputs: ResultReader<Outputs> = () => outputsOf;

export const toNothing: ResultReader<void> = () => () => undefined;

export const toResult: ResultReader<InferenceResult> =
  ({ deployment, isHandled }) =>
  ({ model, outputs, replica, batchSize, queueMs, loadMs, runMs, totalMs }) => {
    const { id } = model;
    const { version = 1 } = isHandled ? {} : model;
    const timings = { queueMs, loadMs, runMs, totalMs };
    return { outputs, model: id, version, deployment: deployment.name, replica, batchSize, timings };
  };
