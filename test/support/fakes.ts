import type { Clock } from '../../dist/common/clock.js';
import { InfermuxError } from '../../dist/common/errors.js';
import type { Batching } from '../../dist/contracts/batching.js';
import type { PendingRequestView, ReplicaView } from '../../dist/contracts/request-router.js';
import type { RoutedAnswer, RoutedCall, RoutedDispatch } from '../../dist/routing/batches/routed-dispatch.js';
import type { DispatcherObserver } from '../../dist/routing/dispatcher-options.js';
import type { RoutedModel, RoutedRequest } from '../../dist/routing/pending-request.js';
import type { RoutableReplica } from '../../dist/routing/placement/replicas/candidate.js';
import type { TensorFeeds } from '../../dist/tensors/tensor.js';

/** Time that passes only on demand. */
export class FakeClock implements Clock {
  #now = 0;
  #timers: { readonly at: number; readonly callback: () => void }[] = [];
  #deferred: (() => void)[] = [];
  readonly #defers: boolean;

  /** @param defers whether deferred callbacks wait for `runDeferred`; otherwise they run at once. */
  constructor({ defers = false } = {}) {
    this.#defers = defers;
  }

  now(): number {
    return this.#now;
  }

  get timers(): number {
    return this.#timers.length;
  }

  schedule(callback: () => void, delayMs: number): () => void {
    // Like Node's timers: whole milliseconds, and at least one.
    const timer = { at: this.#now + Math.max(1, Math.trunc(delayMs)), callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  defer(callback: () => void): void {
    if (this.#defers) this.#deferred.push(callback);
    else callback();
  }

  nextTurn(callback: () => void): void {
    this.defer(callback);
  }

  runDeferred(): void {
    for (const callback of this.#deferred.splice(0)) callback();
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
  readonly dispatch: RoutedDispatch;
  readonly resolve: (answer: RoutedAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Observes the events that a replica's handle reports to its engine. */
export interface FakeReplicaObserver {
  modelChanged(replica: FakeReplica, modelKey: string): void;
  given(replica: FakeReplica, dispatch: RoutedDispatch): void;
}

/** A replica without a thread: it loads, evicts and answers step by step, on demand. */
export class FakeReplica implements RoutableReplica {
  readonly id: string;
  readonly models = new Map<string, 'loading' | 'loaded'>();
  readonly deployment = 'default';
  labels: Readonly<Record<string, string>> = {};
  ownStats: Readonly<Record<string, unknown>> | undefined;
  readonly pinned = new Set<string>();
  freeBytes = Number.POSITIVE_INFINITY;
  readonly loads: string[] = [];
  readonly evictions: string[] = [];
  /** Milliseconds of every call. With 1, requests that are not joined go one by one. */
  runMs = 1;
  /** Milliseconds of each further request of a joined call. */
  msPerRequest = 0;
  loadMs = 5;
  readonly #maxModels: number;
  readonly #observer: FakeReplicaObserver;
  #given: Given[] = [];
  #isDead = false;
  #ahead: { readonly key: string; readonly resolve: () => void } | undefined;
  /** Keys of the spare models that the last dispatch or load named. */
  spare: readonly string[] = [];

  constructor(id: string, maxModels: number, observer: FakeReplicaObserver) {
    this.id = id;
    this.#maxModels = maxModels;
    this.#observer = observer;
  }

  get freeModels(): number {
    return Math.max(0, this.#maxModels - this.models.size);
  }

  get ongoing(): number {
    return this.requests.length;
  }

  get dispatches(): number {
    return this.#given.length;
  }

  get isLoading(): boolean {
    return [...this.models.values()].includes('loading');
  }

  get loadUnderWay(): string | undefined {
    return this.isLoading ? this.#given[0]?.dispatch.model.key : undefined;
  }

  /** Feeds of the ongoing requests, dispatch by dispatch. */
  get requests(): TensorFeeds[] {
    return this.#given.flatMap(({ dispatch }) => feedsOf(dispatch));
  }

  run(dispatch: RoutedDispatch): Promise<RoutedAnswer> {
    if (this.#isDead) return Promise.reject(new InfermuxError('REPLICA_FAILED', `${this.id} is dead`));
    this.spare = dispatch.spare;
    return new Promise((resolve, reject) => {
      this.#given.push({ dispatch, resolve, reject });
      this.#observer.given(this, dispatch);
      if (!this.models.has(dispatch.model.key)) this.#set(dispatch.model.key, 'loading');
    });
  }

  load({ key }: RoutedModel, { spare = [] as readonly string[] } = {}): Promise<void> {
    this.spare = spare;
    return new Promise((resolve) => {
      this.#ahead = { key, resolve };
      this.#set(key, 'loading');
    });
  }

  /** Does one step of work: ends a load, or answers the first dispatch. @returns false when there is nothing to do. */
  step(): boolean {
    const ahead = this.#ahead;
    if (ahead !== undefined) {
      this.#ahead = undefined;
      this.#loadModel(ahead.key);
      ahead.resolve();
      return true;
    }
    const [first] = this.#given;
    if (first === undefined) return false;
    const { key } = first.dispatch.model;
    if (this.models.get(key) === 'loaded') {
      this.#given.shift();
      // As in lru-cache: used last, evicted last.
      this.models.delete(key);
      this.models.set(key, 'loaded');
      const calls = first.dispatch.groups.map((group) => this.#answersTo(group));
      first.resolve({ loadMs: 0, verification: this.verification, calls });
      return true;
    }
    this.#loadModel(key);
    return true;
  }

  #loadModel(key: string): void {
    for (const old of [...this.models.keys()]) {
      if (this.models.size <= this.#maxModels) break;
      if (this.models.get(old) !== 'loaded') continue;
      this.evictions.push(old);
      this.#set(old, undefined);
    }
    this.loads.push(key);
    this.#set(key, 'loaded');
  }

  /** The error that it answers with, instead of outputs. */
  failure: InfermuxError | undefined;
  /** Most answers to the requests of one group. */
  answers = Number.POSITIVE_INFINITY;
  /** Verification that it reports for the next batches. */
  verification: RoutedAnswer['verification'];

  #answersTo({ feeds, joined }: RoutedDispatch['groups'][number]): RoutedCall[] {
    const requests = Math.min(feeds.length, this.answers);
    const isRight = this.failure === undefined;
    const all = Array.from({ length: requests }, () => ({}));
    return [
      {
        requests,
        joined: joined && isRight,
        runMs: all.map(() => (isRight ? this.runMs + (joined ? (requests - 1) * this.msPerRequest : 0) : 0)),
        error: this.failure,
        outputs: () => (isRight ? all : []),
      },
    ];
  }

  /** Fails the first dispatch's load. */
  failLoad(error: InfermuxError): void {
    const first = this.#given.shift();
    if (first === undefined) return;
    this.#set(first.dispatch.model.key, undefined);
    first.reject(error);
  }

  /** Acts as the handle of a dead thread, in the same order: leaves the pool, then rejects all given dispatches. */
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

export function fakeModel(id: string, bytes = 1_000, batching?: Batching): RoutedModel {
  return { id, key: `${id}@1`, path: `/nowhere/${id}.onnx`, bytes, batching };
}

/** Returns a replica as routers see it, with the values that a test gives. */
export function fakeView(id: string, own: Partial<ReplicaView> = {}): ReplicaView {
  return {
    ...{ id, deployment: 'default', labels: {}, ongoing: 0, capacity: Number.POSITIVE_INFINITY, models: new Map() },
    ...{ freeBytes: Number.POSITIVE_INFINITY, freeModels: Number.POSITIVE_INFINITY, expectedWorkMs: 0 },
    routingStats: { throughput: 0, runMs: 0, loadMs: 0 },
    ...own,
  };
}

export function fakeRequestView(model: string, own: Partial<PendingRequestView> = {}): PendingRequestView {
  return {
    ...{ id: 0, model, modelKey: model, priority: 0, shardKey: undefined, labels: {}, waitedMs: 0, queued: 1 },
    ...{ expectedRunMs: 1, expectedLoadMs: 10 },
    ...own,
  };
}

export function fakeRequest(model: RoutedModel, feeds: TensorFeeds = {}): RoutedRequest {
  const terms = {
    priority: 0,
    deadline: undefined,
    signal: undefined,
    transferred: undefined,
    releaseFeeds: undefined,
    payload: undefined,
    shardKey: undefined,
    labels: undefined,
    isShadow: false,
  };
  return { model, feeds, outputs: undefined, checked: true, ...terms };
}

export function feedsOf({ groups }: RoutedDispatch): TensorFeeds[] {
  return groups.flatMap(({ feeds }) => feeds);
}

/** Returns an observer that does nothing except the given overrides. */
export function fakeObserver(overrides: Partial<DispatcherObserver> = {}): DispatcherObserver {
  const nothing = () => undefined;
  return {
    busy: nothing,
    idle: nothing,
    submitted: nothing,
    accepted: nothing,
    given: nothing,
    waited: nothing,
    answered: nothing,
    failed: nothing,
    called: nothing,
    batchingSwitchedOff: nothing,
    routerFailed: nothing,
    ...overrides,
  };
}

/** Lets settled promises call back. */
export async function flush(): Promise<void> {
  for (let turn = 0; turn < 8; turn += 1) await Promise.resolve();
}
