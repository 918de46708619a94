import type { Clock } from '../../dist/clock.js';
import { InfermuxError } from '../../dist/errors.js';
import type { RoutableReplica } from '../../dist/routing/dispatcher.js';
import type { RoutedAnswer, RoutedModel, RoutedRequest } from '../../dist/routing/pending-request.js';

/** Time that passes only when it is told to. */
export class FakeClock implements Clock {
  #now = 0;
  #timers: { readonly at: number; readonly callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  get timers(): number {
    return this.#timers.length;
  }

  schedule(callback: () => void, delayMs: number): () => void {
    // As Node's timers: whole milliseconds, and at least one.
    const timer = { at: this.#now + Math.max(1, Math.trunc(delayMs)), callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  advance(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((left, right) => left.at - right.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }
}

interface Given {
  readonly request: RoutedRequest;
  readonly resolve: (answer: RoutedAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Told what a replica's handle tells its engine. */
export interface FakeReplicaObserver {
  modelChanged(replica: FakeReplica, modelKey: string): void;
  given(replica: FakeReplica, request: RoutedRequest): void;
}

/** A replica without a thread: it loads, evicts and answers one step at a time, when it is told to. */
export class FakeReplica implements RoutableReplica {
  readonly id: string;
  readonly models = new Map<string, 'loading' | 'loaded'>();
  readonly freeBytes = Number.POSITIVE_INFINITY;
  readonly loads: string[] = [];
  readonly evictions: string[] = [];
  runMs = 0.1;
  loadMs = 5;
  readonly #maxModels: number;
  readonly #observer: FakeReplicaObserver;
  #given: Given[] = [];
  #isDead = false;

  constructor(id: string, maxModels: number, observer: FakeReplicaObserver) {
    this.id = id;
    this.#maxModels = maxModels;
    this.#observer = observer;
  }

  get ongoing(): number {
    return this.#given.length;
  }

  get isLoading(): boolean {
    return [...this.models.values()].includes('loading');
  }

  get loadUnderWay(): string | undefined {
    return this.isLoading ? this.#given[0]?.request.model.key : undefined;
  }

  get requests(): RoutedRequest[] {
    return this.#given.map(({ request }) => request);
  }

  run(request: RoutedRequest): Promise<RoutedAnswer> {
    if (this.#isDead) return Promise.reject(new InfermuxError('REPLICA_FAILED', `${this.id} is dead`));
    return new Promise((resolve, reject) => {
      this.#given.push({ request, resolve, reject });
      this.#observer.given(this, request);
      if (!this.models.has(request.model.key)) this.#set(request.model.key, 'loading');
    });
  }

  /** One step of the thread's work: ends a load, or answers the first request. @returns false when there is nothing to do. */
  step(): boolean {
    const [first] = this.#given;
    if (first === undefined) return false;
    const { key } = first.request.model;
    if (this.models.get(key) === 'loaded') {
      this.#given.shift();
      // As in lru-cache: used last, evicted last.
      this.models.delete(key);
      this.models.set(key, 'loaded');
      first.resolve({ outputs: {}, loadMs: 0, runMs: this.runMs });
      return true;
    }
    for (const old of [...this.models.keys()]) {
      if (this.models.size <= this.#maxModels) break;
      if (this.models.get(old) !== 'loaded') continue;
      this.evictions.push(old);
      this.#set(old, undefined);
    }
    this.loads.push(key);
    this.#set(key, 'loaded');
    return true;
  }

  /** Fails the first request's load. */
  failLoad(error: InfermuxError): void {
    const first = this.#given.shift();
    if (first === undefined) return;
    this.#set(first.request.model.key, undefined);
    first.reject(error);
  }

  /** What a dead thread's handle does, in its order: it leaves its pool, then rejects what it was given. */
  crash(leave: (crash: InfermuxError) => void): void {
    const error = new InfermuxError('REPLICA_FAILED', `${this.id} crashed`);
    this.#isDead = true;
    leave(error);
    for (const { reject } of this.#given.splice(0)) reject(error);
  }

  #set(modelKey: string, state: 'loading' | 'loaded' | undefined): void {
    if (state === undefined) this.models.delete(modelKey);
    else this.models.set(modelKey, state);
    this.#observer.modelChanged(this, modelKey);
  }
}

export function fakeModel(id: string, bytes = 1_000): RoutedModel {
  return { id, key: `${id}@1`, path: `/nowhere/${id}.onnx`, bytes };
}

export function fakeRequest(model: RoutedModel): RoutedRequest {
  return { model, feeds: {}, outputs: undefined, checked: true, onAccepted: () => undefined };
}

/** Lets promises that are settled call back. */
export async function flush(): Promise<void> {
  for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
}
