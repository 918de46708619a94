import { isHandlerKey } from '../contracts/handler.js';
import type { ModelName } from '../contracts/model-reference.js';
import type { ReplicaEvent } from '../protocol/events.js';

export type ModelState = 'loading' | 'loaded';

/** The models that a replica has or is loading, known from the messages to its thread and the thread's reports. */
export class ReplicaModels {
  readonly states = new Map<string, ModelState>();
  /** Models that are never evicted. */
  readonly pinned = new Set<string>();
  /** Bytes that a handler has said its own models take, by key. */
  readonly ownBytes = new Map<string, number>();
  /** Models whose weights are pages that other sessions map, too. */
  readonly shared = new Set<string>();
  readonly #changed: (modelKey: string) => void;
  /** Models that count as loading because a load of them was ordered. */
  readonly #trying = new Set<string>();
  /** Sessions that are worked on in their place. */
  #inPlace = 0;
  #loadUnderWay: ModelName | undefined;
  /** Unanswered requests of a handler that name the model, which it may load. */
  readonly #named = new Map<string, number>();

  /** @param changed called after a model appeared, disappeared or went from loading to loaded. */
  constructor(changed: (modelKey: string) => void) {
    this.#changed = changed;
  }

  /** Whether a load was ordered and has not ended. */
  get isLoading(): boolean {
    return this.#trying.size + this.#inPlace > 0;
  }

  /** The model whose load has begun in the thread and has not ended. */
  get loadUnderWay(): ModelName | undefined {
    return this.#loadUnderWay;
  }

  /** Counts as a load while the work on a session goes on, which stays in its place. */
  async during<T>(key: string, work: () => Promise<T>): Promise<T> {
    this.#inPlace += 1;
    this.#changed(key);
    try {
      return await work();
    } finally {
      this.#inPlace -= 1;
      this.#changed(key);
    }
  }

  /** A message that needs the model is about to go to the thread. A missing model counts as loading from now on. */
  asked(key: string): void {
    if (this.states.get(key) !== 'loaded') this.#try(key);
  }

  /** A run of the model was answered, so the replica has the model, whatever the thread reported. */
  ran(key: string): void {
    if (this.states.get(key) === 'loading') this.set(key, 'loaded');
  }

  /**
   * A message that needed the model was answered, and no load of it was reported: it does not count as loading any more.
   * The thread reports no load for a failure that it only remembers, and a handler may not load the model that it is asked
   * about.
   */
  notLoaded(key: string): void {
    if (this.states.get(key) === 'loading') this.set(key, undefined);
  }

  /**
   * A request that names the model is about to go to a handler, which decides whether it loads the model. A missing model
   * counts as loading until then, but nothing is tried.
   */
  named(key: string): void {
    this.#named.set(key, (this.#named.get(key) ?? 0) + 1);
    if (!this.states.has(key)) this.set(key, 'loading');
  }

  /** The handler is about to be told of the model that it asked for. A missing model counts as loading from now on. */
  told(key: string): void {
    if (this.states.get(key) === 'loaded') return;
    this.asked(key);
  }

  /** The thread has loaded the model that it was told of, or it will not load it. */
  knows(key: string): void {
    if (this.#loadUnderWay?.key === key) return;
    if (!this.#named.has(key)) this.notLoaded(key);
    else if (this.#trying.delete(key)) this.#changed(key);
  }

  /** The handler has answered a request that named the model. */
  handled(key: string): void {
    const left = (this.#named.get(key) ?? 0) - 1;
    if (left > 0) {
      this.#named.set(key, left);
      return;
    }
    this.#named.delete(key);
    if (!this.#trying.has(key)) this.notLoaded(key);
  }

  /** Whether a load of the model was ordered and has not ended. */
  isTrying(key: string): boolean {
    return this.#trying.has(key);
  }

  #try(key: string): void {
    if (this.#trying.has(key)) return;
    this.#trying.add(key);
    if (this.states.get(key) === 'loading') this.#changed(key);
    else this.set(key, 'loading');
  }

  set(key: string, state: ModelState | undefined): void {
    if (state !== 'loading') this.#trying.delete(key);
    const before = this.states.get(key);
    if (before === state) return;
    if (state === undefined) {
      this.states.delete(key);
      this.pinned.delete(key);
      this.shared.delete(key);
      this.ownBytes.delete(key);
    } else this.states.set(key, state);
    this.#changed(key);
  }

  reported(event: ReplicaEvent): void {
    switch (event.kind) {
      case 'model-loading':
        this.#loadUnderWay = { key: event.key, id: event.id };
        this.#try(event.key);
        break;
      case 'model-loaded':
        this.#loadUnderWay = undefined;
        this.set(event.key, 'loaded');
        if (isHandlerKey(event.key)) this.ownBytes.set(event.key, event.bytes);
        if (event.weights === 'shared') this.shared.add(event.key);
        break;
      case 'model-shares':
        this.shared.add(event.key);
        break;
      case 'model-load-failed':
        this.#loadUnderWay = undefined;
        this.set(event.key, undefined);
        break;
      case 'model-unloaded':
        this.set(event.key, undefined);
        break;
      default:
        break;
    }
  }

  /** Forgets all models, because the thread is gone. `changed` is not called. */
  clear(): void {
    this.states.clear();
    this.#trying.clear();
    this.#named.clear();
  }
}
