import { InfermuxError } from '../../../dist/common/errors.js';
import { isWideKey, type ModelName } from '../../../dist/contracts/model-reference.js';
import type { RoutedAnswer, RoutedCall, RoutedDispatch } from '../../../dist/routing/batches/routed-dispatch.js';
import type { RoutedModel } from '../../../dist/routing/pending-request.js';
import type { RoutableReplica } from '../../../dist/routing/placement/replicas/candidate.js';
import type { ReadFeeds } from '../../../dist/tensors/tensor.js';

interface Given {
  readonly dispatch: RoutedDispatch;
  readonly resolve: (answer: RoutedAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Told what a replica's handle tells its engine. */
export interface FakeReplicaObserver {
  modelChanged(replica: FakeReplica, modelKey: string): void;
  given(replica: FakeReplica, dispatch: RoutedDispatch): void;
}

/** A replica without a thread: it loads, evicts and answers one step at a time, when it is told to. */
export class FakeReplica implements RoutableReplica {
  readonly id: string;
  readonly models = new Map<string, 'loading' | 'loaded'>();
  readonly deployment = 'default';
  labels: Readonly<Record<string, string>> = {};
  ownStats: Readonly<Record<string, unknown>> | undefined;
  readonly pinned = new Set<string>();
  gone: Promise<unknown> = Promise.resolve();
  isFailed = false;
  isExpress = false;
  killsCancelled = false;
  readonly leadMs = 1;
  /** What it does when it is given up. */
  abandon: (cause: Error) => void = () => undefined;
  othersAtWork = 0;
  handles: 'requests' | 'batches' | undefined;
  awaiting = 0;
  freeBytes = Number.POSITIVE_INFINITY;
  readonly loads: string[] = [];
  readonly evictions: string[] = [];
  /** Milliseconds that every call takes: with 1, requests that are not joined go one by one. */
  runMs = 1;
  /** The same in a wide session. Default: `runMs`. */
  wideMs: number | undefined;
  /** Milliseconds that each further request of a joined call takes. */
  msPerRequest = 0;
  loadMs = 5;
  readonly #maxModels: number;
  readonly #observer: FakeReplicaObserver;
  #given: Given[] = [];
  #isDead = false;
  #ahead: { readonly key: string; readonly resolve: () => void } | undefined;
  /** Keys of the models that it ran, dispatch by dispatch. */
  readonly ran: string[] = [];
  /** Keys of models that the last dispatch or load said are spare. */
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

  /** Key of the model of the first dispatch. */
  get running(): string | undefined {
    return this.#given[0]?.dispatch.model.key;
  }

  get isLoading(): boolean {
    return [...this.models.values()].includes('loading');
  }

  isTrying(modelKey: string): boolean {
    return this.models.get(modelKey) === 'loading';
  }

  get loadUnderWay(): ModelName | undefined {
    return this.isLoading ? this.#given[0]?.dispatch.model : undefined;
  }

  /** The feeds of what it was given, dispatch by dispatch. */
  get requests(): ReadFeeds[] {
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

  async unload(key: string): Promise<void> {
    this.#set(key, undefined);
  }

  load({ key }: RoutedModel, { spare = [] as readonly string[] } = {}): Promise<void> {
    this.spare = spare;
    return new Promise((resolve) => {
      this.#ahead = { key, resolve };
      this.#set(key, 'loading');
    });
  }

  /** One step of the thread's work: ends a load, or answers the first dispatch. @returns false when there is nothing to do. */
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
      this.ran.push(key);
      // As in lru-cache: used last, evicted last.
      this.models.delete(key);
      this.models.set(key, 'loaded');
      const runMs = isWideKey(key) ? (this.wideMs ?? this.runMs) : this.runMs;
      const calls = first.dispatch.groups.map((group) => this.#answersTo(group, runMs));
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

  /** What it answers instead of outputs. */
  failure: InfermuxError | undefined;
  /** Most answers that it gives to a group. */
  answers = Number.POSITIVE_INFINITY;
  /** What it says of the next batches. */
  verification: RoutedAnswer['verification'];

  #answersTo({ feeds, joined }: RoutedDispatch['groups'][number], runMs: number): RoutedCall[] {
    const requests = Math.min(feeds.length, this.answers);
    const isRight = this.failure === undefined;
    const all = Array.from({ length: requests }, () => ({}));
    return [
      {
        requests,
        joined: joined && isRight,
        runMs: all.map(() => (isRight ? runMs + (joined ? (requests - 1) * this.msPerRequest : 0) : 0)),
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

export function feedsOf({ groups }: RoutedDispatch): ReadFeeds[] {
  return groups.flatMap(({ feeds }) => feeds);
}
