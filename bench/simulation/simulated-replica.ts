import { InfermuxError } from '../../dist/common/errors.js';
import type { Eviction } from '../../dist/contracts/eviction.js';
import type { ModelName } from '../../dist/contracts/model-reference.js';
import type { ModelState } from '../../dist/contracts/request-router.js';
import type { RoutedAnswer, RoutedCall, RoutedDispatch } from '../../dist/routing/batches/routed-dispatch.js';
import type { RoutedModel } from '../../dist/routing/pending-request.js';
import type { RoutableReplica } from '../../dist/routing/placement/replicas/candidate.js';
import type { VirtualClock } from './virtual-clock.js';
import type { SimulatedModel } from './workload.js';

interface Given {
  readonly dispatch: RoutedDispatch;
  readonly answer: Answer;
  readonly requests: number;
}

interface CachedSession {
  readonly key: string;
  readonly bytes: number;
  readonly loadMs: number;
}

export interface SimulatedReplicaObserver {
  modelChanged(replica: SimulatedReplica, key: string): void;
  loaded(replica: SimulatedReplica, model: SimulatedModel, loadMs: number): void;
}

/** A promise that calls back as soon as it settles: the simulation has no event loop for promises to wait for. */
class Answer implements PromiseLike<RoutedAnswer> {
  #settled: (answer: RoutedAnswer) => unknown = () => undefined;
  #failed: (error: InfermuxError) => unknown = () => undefined;

  // biome-ignore lint/suspicious/noThenProperty: it is what the dispatcher waits for
  then<A, B>(
    settled?: ((answer: RoutedAnswer) => A | PromiseLike<A>) | null,
    failed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): PromiseLike<A | B> {
    this.#settled = settled ?? this.#settled;
    this.#failed = failed ?? this.#failed;
    return this as unknown as PromiseLike<A | B>;
  }

  settle(answer: RoutedAnswer): void {
    this.#settled(answer);
  }

  fail(error: InfermuxError): void {
    this.#failed(error);
  }
}

const NOTHING = {};

/** A replica without a thread: its work takes time on the virtual clock, one message after the other. */
export class SimulatedReplica implements RoutableReplica {
  readonly id: string;
  readonly deployment = 'default';
  readonly labels = {};
  readonly ownStats = undefined;
  readonly pinned: ReadonlySet<string> = new Set();
  readonly models = new Map<string, ModelState>();
  readonly #clock: VirtualClock;
  readonly #eviction: Eviction;
  readonly #maxBytes: number;
  readonly #slowness: number;
  readonly #observer: SimulatedReplicaObserver;
  /** Sessions, the least recently used first. */
  readonly #sessions = new Map<string, CachedSession>();
  readonly #given: Given[] = [];
  #bytes = 0;
  #loadsAhead = false;
  #ongoing = 0;
  #loading = 0;
  #cancel: () => void = () => undefined;
  loadUnderWay: ModelName | undefined;
  readonly gone = Promise.resolve();
  readonly isFailed = false;
  readonly isExpress: boolean = false;
  readonly othersAtWork: number = 0;

  constructor(
    id: string,
    how: { clock: VirtualClock; eviction: Eviction; maxBytes: number; slowness: number },
    observer: SimulatedReplicaObserver,
  ) {
    this.id = id;
    this.#clock = how.clock;
    this.#eviction = how.eviction;
    this.#maxBytes = how.maxBytes;
    this.#slowness = how.slowness;
    this.#observer = observer;
  }

  get ongoing(): number {
    return this.#ongoing;
  }

  get dispatches(): number {
    return this.#given.length;
  }

  get isLoading(): boolean {
    return this.#loading > 0;
  }

  isTrying(modelKey: string): boolean {
    return this.models.get(modelKey) === 'loading';
  }

  get freeModels(): number {
    return this.freeBytes >= 1_000_000 ? 1 : 0;
  }

  get freeBytes(): number {
    return this.#maxBytes - this.#bytes;
  }

  run(dispatch: RoutedDispatch): PromiseLike<RoutedAnswer> {
    const answer = new Answer();
    let requests = 0;
    for (const { feeds } of dispatch.groups) requests += feeds.length;
    this.#given.push({ dispatch, answer, requests });
    this.#ongoing += requests;
    const { key } = dispatch.model;
    if (!this.models.has(key)) this.#set(key, 'loading');
    if (this.#given.length === 1 && !this.#loadsAhead) this.#begin();
    return answer;
  }

  /** Loads a copy of the model, before any later dispatch. The replica must be idle. */
  load(model: RoutedModel, { spare }: { readonly spare: readonly string[] }): PromiseLike<void> {
    this.#set(model.key, 'loading');
    if (this.#given.length > 0) throw new Error('copies are loaded in idle time');
    this.#loadsAhead = true;
    this.#load(model as SimulatedModel, spare, () => {
      this.#loadsAhead = false;
      this.#begin();
    });
    return new Answer() as unknown as PromiseLike<void>;
  }

  /** Releases the session at once: only idle ones are released here. */
  unload(key: string): PromiseLike<void> {
    const session = this.#sessions.get(key);
    if (session !== undefined) this.#bytes -= session.bytes;
    this.#sessions.delete(key);
    this.#set(key, undefined);
    return new Answer() as unknown as PromiseLike<void>;
  }

  /** The thread is gone, and with it the sessions. */
  crash(leave: (crash: InfermuxError) => void): void {
    const error = new InfermuxError('REPLICA_FAILED', `${this.id} crashed`);
    this.#cancel();
    leave(error);
    for (const { answer } of this.#given.splice(0)) answer.fail(error);
  }

  #begin(): void {
    const [first] = this.#given;
    if (first === undefined) return;
    const { model, spare } = first.dispatch;
    this.#eviction.requested(model.key, first.requests);
    const session = this.#sessions.get(model.key);
    if (session === undefined) this.#load(model as SimulatedModel, spare, () => this.#run(first));
    else {
      this.#sessions.delete(model.key);
      this.#sessions.set(model.key, session);
      this.#run(first);
    }
  }

  #load(model: SimulatedModel, spare: readonly string[], loaded: () => void): void {
    const { key, bytes } = model;
    while (this.#bytes + bytes > this.#maxBytes && this.#sessions.size > 0) this.#evict(spare);
    this.loadUnderWay = model;
    const loadMs = model.loadMs * this.#slowness;
    this.#bytes += bytes;
    this.#after(loadMs, () => {
      this.loadUnderWay = undefined;
      this.#sessions.set(key, { key, bytes, loadMs });
      this.#observer.loaded(this, model, loadMs);
      this.#set(key, 'loaded');
      loaded();
    });
  }

  #evict(spare: readonly string[]): void {
    const sessions = [...this.#sessions.values()] as [CachedSession, ...CachedSession[]];
    const first = sessions.find((session) => spare.includes(session.key));
    const { key, bytes } = first ?? this.#eviction.first(sessions);
    this.#sessions.delete(key);
    this.#bytes -= bytes;
    this.#set(key, undefined);
  }

  #run({ dispatch, answer, requests }: Given): void {
    let totalMs = 0;
    const calls = dispatch.groups.map(({ payloads = [] }): RoutedCall[] => {
      const runMs = payloads.map(({ value }) => (value as number) * this.#slowness);
      for (const milliseconds of runMs) totalMs += milliseconds;
      return [
        { requests: runMs.length, joined: false, runMs, error: undefined, outputs: () => runMs.map(() => NOTHING) },
      ];
    });
    this.#after(totalMs, () => {
      this.#given.shift();
      this.#ongoing -= requests;
      // Work that is given in reply begins at once.
      this.#begin();
      answer.settle({ loadMs: 0, verification: undefined, calls });
    });
  }

  #after(milliseconds: number, callback: () => void): void {
    this.#cancel = this.#clock.after(milliseconds, callback);
  }

  #set(key: string, state: ModelState | undefined): void {
    const before = this.models.get(key);
    if (before === 'loading') this.#loading -= 1;
    if (state === 'loading') this.#loading += 1;
    if (state === undefined) this.models.delete(key);
    else this.models.set(key, state);
    this.#observer.modelChanged(this, key);
  }
}
