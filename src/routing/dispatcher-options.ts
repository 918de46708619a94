import type { InfermuxError } from '../common/errors.js';
import type { Batching } from '../contracts/batching.js';
import type { Order, RequestRouter, RouterName } from '../contracts/request-router.js';
import type { RoutedModel, RoutedRequest, RoutedResult } from './pending-request.js';
import type { RouterFault } from './routers/guarded-router.js';

export interface DispatcherOptions {
  /** Most requests given to a replica and not finished; -1 for no limit but two dispatches. */
  readonly maxOngoingRequests: number;
  /** Most requests that wait; -1 for no limit. */
  readonly maxQueuedRequests: number;
  readonly batching: Batching;
  /** Default: two choices. */
  readonly router?: RouterName | RequestRouter;
  /** Default: models take turns. */
  readonly order?: Order;
  /** Replicas are looked at after so many requests without an answer between them. Default: 256. */
  readonly lookAfterRequests?: number;
}

export interface DispatcherObserver {
  /** There is work from now on; the process must stay up for it. */
  busy(): void;
  /** There is none from now on. */
  idle(): void;
  /** A request came, whatever becomes of it. */
  submitted(): void;
  /** The request is accepted, in the turn in which it was submitted; from now on it must not change. */
  accepted(request: RoutedRequest): void;
  /** Requests are given to the replica. */
  given(replica: string, requests: number): void;
  /** One of them waited so long. */
  waited(queueMs: number): void;
  /** A request was answered. */
  answered(model: RoutedModel, result: RoutedResult): void;
  /** A request was refused or answered with an error. */
  failed(error: InfermuxError, isShadow: boolean): void;
  /** A call was made for so many requests at once. */
  called(model: RoutedModel, requests: number): void;
  /** The model's requests are joined no more. */
  batchingSwitchedOff(model: RoutedModel, reason: string): void;
  /**
   * The router did what it should not have; the default one is asked in its place.
   *
   * @param isFirst the first time that this router did it.
   */
  routerFailed(fault: RouterFault, error: InfermuxError, isFirst: boolean): void;
}
