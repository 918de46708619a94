import { InfermuxError } from '../../../dist/common/errors.js';
import type { Eviction } from '../../../dist/contracts/eviction.js';
import type { ModelName } from '../../../dist/contracts/model-reference.js';
import type { ModelState } from '../../../dist/contracts/request-router.js';
import type {
  RoutedAnswer,
  RoutedCall,
  RoutedDispatch,
  RoutedGroup,
} from '../../../dist/routing/batches/routed-dispatch.js';
import type { RoutedModel } from '../../../dist/routing/pending-request.js';
import type { RoutableReplica } from '../../../dist/routing/placement/replicas/candidate.js';
import { Answer } from './answer.js';
import type { SimulatedMachine } from './simulated-machine.js';
import { batchMsOf, runMsOf, type SimulatedModel, serviceMsOf } from './simulated-model.js';

interface Given {
  readonly dispatch: RoutedDispatch;
  readonly answer: Answer<RoutedAnswer>;
  readonly requests: number;
}

/** A load that no request waits for. */
interface LoadAhead {
  readonly model: SimulatedModel;
  readonly spare: readonly string[];
  readonly answer: Answer<void>;
}

interface CachedSession {
  readonly key: string;
  readonly bytes: number;
  readonly loadMs: number;
  readonly isWide: boolean;
}

export interface SimulatedReplicaOptions {
  readonly eviction: Eviction;
  readonly maxBytes: number;
  /** Factor by which its loads and runs are longer. */
  readonly slowness: number;
  /** Threads of its sessions, except for wide ones. */
  readonly threads: number;
  readonly isExpress: boolean;
}

export interface SimulatedReplicaObserver {
  modelChanged(replica: SimulatedReplica, key: string): void;
  loaded(replica: SimulatedReplica, model: SimulatedModel, loadMs: number): void;
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
  readonly isExpress: boolean;
  readonly killsCancelled = false;
  readonly leadMs = 1;
  readonly #machine: SimulatedMachine;
  readonly #options: SimulatedReplicaOptions;
  readonly #observer: SimulatedReplicaObserver;
  /** Sessions, the least recently used first. */
  readonly #sessions = new Map<string, CachedSession>();
  readonly #given: Given[] = [];
  readonly #ahead: LoadAhead[] = [];
  /** Keys of sessions that leave after their last use. */
  readonly #leaving = new Set<string>();
  #isBusy = false;
  #bytes = 0;
  #ongoing = 0;
  #loading = 0;
  #cancel: () => void = () => undefined;
  loadUnderWay: ModelName | undefined;
  readonly gone = Promise.resolve();
  readonly isFailed = false;

  constructor(
    id: string,
    machine: SimulatedMachine,
    options: SimulatedReplicaOptions,
    observer: SimulatedReplicaObserver,
  ) {
    this.id = id;
    this.isExpress = options.isExpress;
    this.#machine = machine;
    this.#options = options;
    this.#observer = observer;
  }

  get ongoing(): number {
    return this.#ongoing;
  }

  get dispatches(): number {
    return this.#given.length;
  }

  readonly handles = undefined;
  readonly awaiting = 0;

  get othersAtWork(): number {
    return this.#machine.replicasAtWork - (this.#given.length > 0 ? 1 : 0);
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
    return this.#options.maxBytes - this.#bytes;
  }

  abandon(): void {
    throw new Error('a simulated replica is not killed');
  }

  run(dispatch: RoutedDispatch): PromiseLike<RoutedAnswer> {
    const answer = new Answer<RoutedAnswer>();
    let requests = 0;
    for (const { feeds } of dispatch.groups) requests += feeds.length;
    this.#given.push({ dispatch, answer, requests });
    if (this.#given.length === 1) this.#machine.replicasAtWork += 1;
    this.#ongoing += requests;
    const { key } = dispatch.model;
    this.#leaving.delete(key);
    if (!this.models.has(key)) this.#set(key, 'loading');
    this.#next();
    return answer;
  }

  /** Loads the model before any later dispatch. A replica that takes all runs must be idle. */
  load(model: RoutedModel, { spare }: { readonly spare: readonly string[] }): PromiseLike<void> {
    if (!this.isExpress && this.#given.length > 0) throw new Error('copies are loaded in idle time');
    const answer = new Answer<void>();
    this.#set(model.key, 'loading');
    this.#ahead.push({ model: model as SimulatedModel, spare, answer });
    this.#next();
    return answer;
  }

  /** Releases the session after its last use. */
  unload(key: string): PromiseLike<number> {
    this.#leaving.add(key);
    // As with threads, the session is gone in a later turn.
    this.#machine.clock.defer(() => this.#release());
    return new Answer();
  }

  /** The thread is gone, and with it the sessions. */
  crash(leave: (crash: InfermuxError) => void): void {
    const error = new InfermuxError('REPLICA_FAILED', `${this.id} crashed`);
    this.#cancel();
    if (this.#given.length > 0) this.#machine.replicasAtWork -= 1;
    leave(error);
    for (const { answer } of this.#given.splice(0)) answer.fail(error);
  }

  #next(): void {
    if (this.#isBusy) return;
    const ahead = this.#ahead.shift();
    const [first] = this.#given;
    this.#isBusy = ahead !== undefined || first !== undefined;
    if (ahead !== undefined) {
      this.#load(ahead.model, ahead.spare, () => {
        ahead.answer.settle();
        this.#isBusy = false;
        this.#next();
      });
    } else if (first !== undefined) this.#begin(first);
    else this.#release();
  }

  #begin(first: Given): void {
    const { model, spare } = first.dispatch;
    this.#options.eviction.requested(model.key, first.requests);
    const session = this.#sessions.get(model.key);
    if (session === undefined) this.#load(model as SimulatedModel, spare, () => this.#run(first));
    else {
      this.#sessions.delete(model.key);
      this.#sessions.set(model.key, session);
      this.#run(first);
    }
  }

  #load(model: SimulatedModel, spare: readonly string[], loaded: () => void): void {
    const { key, bytes, threads } = model;
    while (this.#bytes + bytes > this.#options.maxBytes && this.#sessions.size > 0) this.#evict(spare);
    this.loadUnderWay = model;
    const ownMs = model.loadMs * this.#options.slowness;
    this.#bytes += bytes;
    this.#work(ownMs, 1, (slowdown) => {
      const loadMs = ownMs * slowdown;
      this.loadUnderWay = undefined;
      this.#sessions.set(key, { key, bytes, loadMs, isWide: threads !== undefined });
      this.#observer.loaded(this, model, loadMs);
      this.#set(key, 'loaded');
      loaded();
    });
  }

  /** Wide sessions leave first, then spare ones. */
  #evict(spare: readonly string[]): void {
    const sessions = [...this.#sessions.values()] as [CachedSession, ...CachedSession[]];
    const first = sessions.find(({ isWide }) => isWide) ?? sessions.find(({ key }) => spare.includes(key));
    this.#drop(first ?? this.#options.eviction.first(sessions));
  }

  #drop({ key, bytes }: CachedSession): void {
    this.#sessions.delete(key);
    this.#bytes -= bytes;
    this.#set(key, undefined);
  }

  #release(): void {
    if (this.#isBusy) return;
    for (const key of this.#leaving) {
      this.#leaving.delete(key);
      const session = this.#sessions.get(key);
      if (session !== undefined) this.#drop(session);
    }
  }

  #run({ dispatch, answer, requests }: Given): void {
    const threads = Math.min(dispatch.model.threads ?? this.#options.threads, this.#machine.cores);
    const calls = dispatch.groups.map((group) => this.#runMsOf(dispatch.model as SimulatedModel, group, threads));
    let totalMs = 0;
    for (const runMs of calls) for (const milliseconds of runMs) totalMs += milliseconds;
    this.#work(totalMs, threads, (slowdown) => {
      this.#given.shift();
      if (this.#given.length === 0) this.#machine.replicasAtWork -= 1;
      this.#ongoing -= requests;
      this.#isBusy = false;
      // Work that is given in reply begins at once.
      this.#next();
      answer.settle({
        ...{ loadMs: 0, verification: undefined },
        calls: dispatch.groups.map((group, index) => callsOf(group, calls[index] ?? [], slowdown)),
      });
    });
  }

  /** Milliseconds of each call of the group, on cores of its own. */
  #runMsOf(model: SimulatedModel, { joined, feeds }: RoutedGroup, threads: number): number[] {
    const own = feeds.map((each) => serviceMsOf(each) * this.#options.slowness);
    const narrow = joined ? [batchMsOf(model, own)] : own;
    return narrow.map((milliseconds) => runMsOf(model, milliseconds, threads));
  }

  #work(milliseconds: number, threads: number, done: (slowdown: number) => void): void {
    this.#cancel = this.#machine.begin({ milliseconds, threads, goesFirst: this.isExpress }, done);
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

function callsOf({ joined, feeds }: RoutedGroup, ownMs: readonly number[], slowdown: number): RoutedCall[] {
  const runMs = ownMs.map((milliseconds) => milliseconds * slowdown);
  const outputs = () => feeds.map(() => NOTHING);
  return [{ requests: feeds.length, joined, runMs, error: undefined, outputs }];
}
