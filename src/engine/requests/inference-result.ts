import type { RoutedResult } from '../../routing/pending-request.js';
import type { Outputs } from '../../tensors/tensor.js';
import type { Destination } from './targets.js';

/** The answer to one request, with its model, replica and times. */
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
  /** From the call until the request was sent to a replica. */
  readonly queueMs: number;
  /** Waiting for the load of the model; 0 if the replica had loaded it. */
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
  (result) =>
    new Answer(result, deployment.name, isHandled ? undefined : result.model.version);

// Classes, because they live until the caller has looked at them: see PendingRequest.
class Answer implements InferenceResult {
  readonly outputs: Outputs;
  readonly model: string;
  readonly version: number;
  readonly deployment: string;
  readonly replica: string;
  readonly batchSize: number;
  readonly timings: InferenceTimings;

  constructor(result: RoutedResult, deployment: string, version = 1) {
    this.outputs = result.outputs;
    this.model = result.model.id;
    this.version = version;
    this.deployment = deployment;
    this.replica = result.replica;
    this.batchSize = result.batchSize;
    this.timings = new Timings(result);
  }
}

class Timings implements InferenceTimings {
  readonly queueMs: number;
  readonly loadMs: number;
  readonly runMs: number;
  readonly totalMs: number;

  constructor({ queueMs, loadMs, runMs, totalMs }: RoutedResult) {
    this.queueMs = queueMs;
    this.loadMs = loadMs;
    this.runMs = runMs;
    this.totalMs = totalMs;
  }
}
