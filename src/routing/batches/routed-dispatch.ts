import type { InfermuxError } from '../../common/errors.js';
import type { Outputs, TensorFeeds } from '../../tensors/tensor.js';
import type { RequestPayload, RoutedModel } from '../pending-request.js';

/** Requests for one model that go to a replica together. */
export interface RoutedDispatch {
  readonly model: RoutedModel;
  readonly groups: readonly RoutedGroup[];
  /** Keys of models that may leave before others, should the model need room. */
  readonly spare: readonly string[];
  /** Hold batches against single runs. */
  readonly verify: boolean;
}

/** Requests with the same outputs wanted and inputs of the same type and dims, but for axis 0 where they are joined. */
export interface RoutedGroup {
  /** Whether they run as one call; otherwise one by one. */
  readonly joined: boolean;
  /** One for each request. */
  readonly feeds: readonly TensorFeeds[];
  /** One for each, where a handler takes them; then their feeds are empty. */
  readonly payloads: readonly RequestPayload[] | undefined;
  /** Names of the outputs to return; all when undefined. */
  readonly outputs: readonly string[] | undefined;
  /** True when the feeds were held against the model's metadata already. */
  readonly checked: boolean;
}

/** What a replica answers. */
export interface RoutedAnswer {
  /** Milliseconds that the dispatch waited for a load. */
  readonly loadMs: number;
  /** How batches compared with single runs, if they were compared. */
  readonly verification: { readonly mismatch: string | undefined } | undefined;
  /** The calls that were made for each group; they answer its requests in their order. */
  readonly calls: readonly (readonly RoutedCall[])[];
}

/** One onnxruntime call for several requests, or several calls for one request each that came to the same. */
export interface RoutedCall {
  readonly requests: number;
  /** Whether it was one call. */
  readonly joined: boolean;
  /** Milliseconds of each call. */
  readonly runMs: readonly number[];
  /** Why it failed, if it did. */
  readonly error: InfermuxError | undefined;
  /** Each request's outputs on memory of their own, or what a handler returned; none if it failed. Made when asked for, so to be asked for once. */
  outputs(): readonly Outputs[];
}
