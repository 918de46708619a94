import { setMaxListeners } from 'node:events';
import type { PendingRequest } from '../pending-request.js';

/**
 * A request that listens to its signal, and its neighbours among the requests of that signal. A class, not a literal: V8
 * learns that objects of a literal live long, and allocates later ones in the old generation; with them all that they
 * refer to gets there, and the whole heap is collected again and again. That cost a third of the requests per second.
 */
class Listening {
  readonly request: PendingRequest;
  previous: Listening | undefined;
  next: Listening | undefined;

  constructor(request: PendingRequest, previous: Listening | undefined) {
    this.request = request;
    this.previous = previous;
    this.next = undefined;
  }
}

/** The requests of one signal, in the order of their arrival. */
class SharedSignal {
  readonly listener: () => void;
  first: Listening | undefined = undefined;
  last: Listening | undefined = undefined;

  constructor(aborted: (request: PendingRequest) => void) {
    this.listener = () => {
      const requests: PendingRequest[] = [];
      for (let each = this.first; each !== undefined; each = each.next) requests.push(each.request);
      // Each of them leaves the list meanwhile, and the last one takes the listener away.
      for (const request of requests) aborted(request);
    };
  }
}

/**
 * The signals of requests. Each has one listener, however many requests share it: the time that a signal takes to
 * remove a listener grows with the number of its listeners.
 */
export class AbortSignals {
  readonly #aborted: (request: PendingRequest) => void;
  /** Signals that requests listen to. A WeakMap of signals that live as long as a request costs each collection. */
  readonly #shared = new Map<AbortSignal, SharedSignal>();

  /** @param aborted called for each request of a signal that is aborted, in the order of their arrival. */
  constructor(aborted: (request: PendingRequest) => void) {
    this.#aborted = aborted;
  }

  /**
   * @param signal the request's signal, not aborted.
   * @returns a function that ends the listening.
   */
  listen(signal: AbortSignal, request: PendingRequest): () => void {
    const shared = this.#shared.get(signal) ?? this.#share(signal);
    const listening = new Listening(request, shared.last);
    if (shared.last === undefined) shared.first = listening;
    else shared.last.next = listening;
    shared.last = listening;
    return () => this.#leave(signal, shared, listening);
  }

  #share(signal: AbortSignal): SharedSignal {
    const shared = new SharedSignal(this.#aborted);
    liftListenerLimit(signal);
    signal.addEventListener('abort', shared.listener, { once: true });
    // Not earlier: a signal that is none of Node's may throw, and nothing would take it from here.
    this.#shared.set(signal, shared);
    return shared;
  }

  #leave(signal: AbortSignal, shared: SharedSignal, listening: Listening): void {
    const { previous, next } = listening;
    if (previous === undefined) shared.first = next;
    else previous.next = next;
    if (next === undefined) shared.last = previous;
    else next.previous = previous;
    // Otherwise those that left long ago would keep later ones from being collected cheaply.
    listening.previous = undefined;
    listening.next = undefined;
    if (shared.first !== undefined) return;
    this.#shared.delete(signal);
    // Also when it has been called: a signal that is none of Node's may not know `once`.
    signal.removeEventListener('abort', shared.listener);
  }
}

/** A signal that callers share with many deployments and engines is no leak. */
function liftListenerLimit(signal: AbortSignal): void {
  try {
    setMaxListeners(0, signal);
  } catch {
    // Only Node's own signals have a limit.
  }
}
