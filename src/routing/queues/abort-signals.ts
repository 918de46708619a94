import { setMaxListeners } from 'node:events';
import type { PendingRequest } from '../pending-request.js';

/** A request that listens to its signal, and its neighbours among the requests of that signal. */
interface Listening {
  readonly request: PendingRequest;
  previous: Listening | undefined;
  next: Listening | undefined;
}

/** The requests of one signal, in the order of their arrival. */
interface SharedSignal {
  readonly listener: () => void;
  first: Listening | undefined;
  last: Listening | undefined;
}

/**
 * The signals of requests. Each has one listener, however many requests share it: the time that a signal takes to
 * remove a listener grows with the number of its listeners.
 */
export class AbortSignals {
  readonly #aborted: (request: PendingRequest) => void;
  /** Signals that requests listen to at present. */
  readonly #shared = new WeakMap<AbortSignal, SharedSignal>();

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
    const listening: Listening = { request, previous: shared.last, next: undefined };
    if (shared.last === undefined) shared.first = listening;
    else shared.last.next = listening;
    shared.last = listening;
    return () => this.#leave(signal, shared, listening);
  }

  #share(signal: AbortSignal): SharedSignal {
    const listener = () => {
      this.#end(signal, shared);
      // Each of them leaves the list meanwhile, but still knows its neighbour.
      for (let listening = shared.first; listening !== undefined; listening = listening.next) {
        this.#aborted(listening.request);
      }
    };
    const shared: SharedSignal = { listener, first: undefined, last: undefined };
    this.#shared.set(signal, shared);
    liftListenerLimit(signal);
    signal.addEventListener('abort', listener, { once: true });
    return shared;
  }

  #leave(signal: AbortSignal, shared: SharedSignal, { previous, next }: Listening): void {
    if (previous === undefined) shared.first = next;
    else previous.next = next;
    if (next === undefined) shared.last = previous;
    else next.previous = previous;
    if (shared.first === undefined && this.#shared.get(signal) === shared) this.#end(signal, shared);
  }

  #end(signal: AbortSignal, { listener }: SharedSignal): void {
    this.#shared.delete(signal);
    // Also when it has been called: a signal that is none of Node's may not know `once`.
    signal.removeEventListener('abort', listener);
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
