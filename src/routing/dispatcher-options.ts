import type { InfermuxError } from '../common/errors.js';
import type { Batching } from '../contracts/batching.js';
import type { Order, RequestRouter, RouterName } from '../contracts/request-router.js';
import type { Bar } from './bars/run-bars.js';
import type { PendingDispatch } from './batches/take-dispatch.js';
import type { RoutedModel, RoutedRequest, RoutedResult } from './pending-request.js';
import type { RouterFault } from './routers/guarded-router.js';

export interface DispatcherOptions {
  /**
   * Most requests given to a replica and not finished; -1 for no limit but that of dispatches. Undefined: five if its
   * handler takes requests one by one, otherwise no limit.
   */
  readonly maxOngoingRequests: number | undefined;
  /** Most requests that wait; -1 for no limit. */
  readonly maxQueuedRequests: number;
  readonly batching: Batching;
  /** Default: `power-of-two-choices`. */
  readonly router?: RouterName | RequestRouter;
  /** Default: `model`; models take turns. */
  readonly order?: Order;
  /** Options of the replicas' sessions. Default: none. */
  readonly session?: object;
  /** How often a request waits for another try at a load of its model that has failed. Default 0. */
  readonly loadRetries?: number;
  /** Cores that a wide run can use. Default 1: there are no wide runs. */
  readonly cores?: number;
  /** Number of requests without an answer in between after which the replicas are looked at. Default 256. */
  readonly lookAfterRequests?: number;
}

export interface DispatcherObserver {
  /** There is work from now on. The process must stay up for it. */
  busy(): void;
  /** There is no work from now on. */
  idle(): void;
  /** A request was submitted, accepted or not. */
  submitted(): void;
  /** The request is accepted, in the event-loop turn in which it was submitted. It must not change from now on. */
  accepted(request: RoutedRequest): void;
  /** The dispatch is given to the replica, to run with this model. */
  given(replica: string, model: RoutedModel, dispatch: PendingDispatch): void;
  /**
   * The dispatch has an answer, or none because of an error. Called if `given` has set its trace.
   *
   * @param loadMs milliseconds that it waited for a load.
   */
  ended(dispatch: PendingDispatch, loadMs: number, error: InfermuxError | undefined): void;
  /** A request that is given to a replica waited for `queueMs` milliseconds. */
  waited(queueMs: number): void;
  /** A request was answered. */
  answered(model: RoutedModel, result: RoutedResult): void;
  /** A request for the model was refused or answered with an error. */
  failed(model: RoutedModel, error: InfermuxError, isShadow: boolean): void;
  /** One call ran for `requests` requests, with several threads if it was wide. */
  called(model: RoutedModel, requests: number, isWide: boolean): void;
  /** Short runs wait behind long ones, so that an express replica is worth its thread; or they do not any more. */
  expressNeeded(isNeeded: boolean): void;
  /** The model's requests are no longer joined. */
  batchingSwitchedOff(model: RoutedModel, reason: string): void;
  /** A request ended two replicas, the second one alone, and is barred; or its whole model is. */
  barred(model: RoutedModel, error: InfermuxError, bar: Bar): void;
  /** Requests wait for a model that is to be looked for. */
  sought(model: RoutedModel): void;
  /** No request waits any more for a model that is being looked for. */
  unsought(model: RoutedModel): void;
  /** The model that is there, or looked for, in place of one that is not served any more, or whose files are gone. */
  insteadOf(model: RoutedModel): RoutedModel | undefined;
  /**
   * The router made a fault; the default router is asked instead.
   *
   * @param isFirst whether it is this router's first fault of the kind.
   */
  routerFailed(fault: RouterFault, error: InfermuxError, isFirst: boolean): void;
}
