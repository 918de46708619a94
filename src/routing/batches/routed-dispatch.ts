import type { InfermuxError } from '../../common/errors.js';
import type { Outputs, ReadFeeds } from '../../tensors/tensor.js';
import type { RequestPayload, RoutedModel } from '../pending-request.js';

/** Requests for one model that go to a replica together. */
export interface RoutedDispatch {
  readonly model: RoutedModel;
  readonly groups: readonly RoutedGroup[];
  /** Keys of models that may be evicted before others when the model needs room. */
  readonly spare: readonly string[];
  /** Compare batches with single runs. */
  readonly verify: boolean;
}

/** Requests for the same outputs, with inputs of the same types and dims; axis 0 may differ when they are joined. */
export interface RoutedGroup {
  /** Whether they run as one call; otherwise one by one. */
  readonly joined: boolean;
  /** One for each request. */
  readonly feeds: readonly ReadFeeds[];
  /** One for each request, for a handler; the feeds are empty then. */
  readonly payloads: readonly RequestPayload[] | undefined;
  /** Names of the outputs to return; all when undefined. */
  readonly outputs: readonly string[] | undefined;
  /** Whether the feeds were already checked against the model's metadata. */
  readonly checked: boolean;
  /** Whether any tensor goes to the replica by itself. */
  readonly hasApart: boolean;
}

/** A replica's answer to a dispatch. */
export interface RoutedAnswer {
  /** Milliseconds that the dispatch waited for a load. */
  readonly loadMs: number;
  /** How batches compared with single runs; undefined when they were not compared. */
  readonly verification: { readonly mismatch: string | undefined } | undefined;
  /** The calls that were made for each group. They answer its requests in order. */
  readonly calls: readonly (readonly RoutedCall[])[];
}

/** One onnxruntime call for several requests, or several calls for one request each, with the same dims or error. */
export interface RoutedCall {
  readonly requests: number;
  /** Whether it was one call. */
  readonly joined: boolean;
  /** Milliseconds of each call. */
  readonly runMs: readonly number[];
  /** Why the call failed; undefined when it succeeded. */
  readonly error: InfermuxError | undefined;
  /** Why single requests of the call failed, if a handler answered it. */
  readonly errors?: readonly (InfermuxError | undefined)[] | undefined;
  /**
   * Each request's outputs on memory of their own, or what a handler returned; none when the call failed. Call it once,
   * because each call makes them.
   */
  outputs(): readonly Outputs[];
}
