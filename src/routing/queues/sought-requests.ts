import { cloneError, type InfermuxError } from '../../common/errors.js';
import { isSought, type PendingRequest, type RoutedModel } from '../pending-request.js';
import type { AcceptedRequests } from './accepted-requests.js';
import type { QueueLimit } from './queue-limit.js';

export interface SoughtRequestsEnvironment {
  readonly accepted: AcceptedRequests;
  readonly limit: QueueLimit;
  /** The first request waits for the model: it is to be looked for. */
  sought(model: RoutedModel): void;
  /** No request waits for it any more. */
  unsought(model: RoutedModel): void;
  /** Puts the request into the queue of its model. */
  enqueue(request: PendingRequest): void;
  /** Why no replica runs, if none can be started. */
  outage(): InfermuxError | undefined;
}

/** Requests for models that are being looked for. They are in no queue of a model, so that no other model waits for them. */
export class SoughtRequests {
  readonly #environment: SoughtRequestsEnvironment;
  /** By the key of the model that is looked for, in order of arrival. */
  readonly #waiting = new Map<string, Set<PendingRequest>>();

  constructor(environment: SoughtRequestsEnvironment) {
    this.#environment = environment;
  }

  /** @returns false when the request's model is known: it belongs in the queue of that. */
  add(request: PendingRequest): boolean {
    const { model } = request;
    if (!isSought(model)) return false;
    const waiting = this.#waiting.get(model.key) ?? new Set();
    request.isWaiting = true;
    this.#environment.limit.entered(request);
    waiting.add(request);
    if (waiting.size > 1) return true;
    this.#waiting.set(model.key, waiting);
    this.#environment.sought(model);
    return true;
  }

  /** The request is over. @returns false when it does not wait here. */
  remove(request: PendingRequest): boolean {
    const { model } = request;
    const waiting = this.#waiting.get(model.key);
    if (!isSought(model) || waiting?.delete(request) !== true) return false;
    request.isWaiting = false;
    this.#environment.limit.left(request);
    if (waiting.size > 0) return true;
    this.#waiting.delete(model.key);
    this.#environment.unsought(model);
    return true;
  }

  /** The model was found: its requests wait for a replica from now on. */
  found(soughtKey: string, model: RoutedModel): void {
    const outage = this.#environment.outage();
    if (outage !== undefined) {
      this.failed(soughtKey, outage);
      return;
    }
    const waiting = this.#waiting.get(soughtKey) ?? [];
    this.#waiting.delete(soughtKey);
    for (const request of waiting) {
      request.isWaiting = false;
      this.#environment.limit.left(request);
      request.model = model;
      this.#environment.enqueue(request);
    }
  }

  /** The model was not found. */
  failed(soughtKey: string, error: InfermuxError): void {
    for (const request of [...(this.#waiting.get(soughtKey) ?? [])]) this.#reject(request, error);
  }

  /** No replica can be started: all requests get this error. */
  failAll(error: InfermuxError): void {
    for (const soughtKey of [...this.#waiting.keys()]) this.failed(soughtKey, error);
  }

  #reject(request: PendingRequest, error: InfermuxError): void {
    this.#environment.accepted.reject(request, () => cloneError(error));
  }
}
