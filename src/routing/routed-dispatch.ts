import type { InfermuxError } from '../errors.js';
import type { Outputs, TensorFeeds } from '../tensor.js';
import type { RoutedModel } from './pending-request.js';

/** Requests for one model that go to a replica together. */
export interface RoutedDispatch {
  readonly model: RoutedModel;
  readonly groups: readonly RoutedGroup[];
  /** Hold batches against single runs. */
  readonly verify: boolean;
}

/** Requests with the same outputs wanted and inputs of the same type and dims, but for axis 0 where they are joined. */
export interface RoutedGroup {
  /** Whether they run as one call; otherwise one by one. */
  readonly joined: boolean;
  /** One for each request. */
  readonly feeds: readonly TensorFeeds[];
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
  /** The requests' answers, group by group in their order; walked once. */
  readonly requests: Iterable<RequestAnswer>;
}

/** One of `outputs` and `error` is there. */
export interface RequestAnswer {
  readonly outputs: Outputs | undefined;
  readonly error: InfermuxError | undefined;
  /** Milliseconds of its onnxruntime call. */
  readonly runMs: number;
  /** Requests that shared the call. */
  readonly batchSize: number;
}
