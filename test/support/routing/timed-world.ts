import type { InfermuxError } from '../../../dist/common/errors.js';
import type { RoutedDispatch } from '../../../dist/routing/batches/routed-dispatch.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import type { DispatcherOptions } from '../../../dist/routing/dispatcher-options.js';
import type { RoutedModel, RoutedRequest, RoutedResult } from '../../../dist/routing/pending-request.js';
import type { ReadFeeds } from '../../../dist/tensors/tensor.js';
import { FakeClock } from '../fakes/fake-clock.js';
import { fakeObserver } from '../fakes/fake-observer.js';
import { FakeReplica, feedsOf } from '../fakes/fake-replica.js';
import { fakeRequest } from '../fakes/fake-requests.js';
import { flush } from '../flush.js';

const METADATA = { inputs: [], outputs: [], omittedOutputs: [] };

/** What a replica of the world is doing. */
interface Work {
  readonly given: RoutedDispatch[];
  endsAt: number | undefined;
}

/** A dispatcher and replicas whose loads and runs take time on a fake clock. */
export class TimedWorld {
  readonly clock = new FakeClock();
  readonly replicas = new Map<FakeReplica, Work>();
  readonly dispatcher: Dispatcher<FakeReplica>;
  /** What the dispatcher said of its need for an express replica. */
  readonly needs: boolean[] = [];
  /** Milliseconds of a run, by model id. */
  readonly runMs: Record<string, number>;
  readonly errors: InfermuxError[] = [];
  /** Told of each dispatch, after the replica has it. */
  onGiven: (replica: FakeReplica, dispatch: RoutedDispatch) => void = () => undefined;
  /** For each load that was ordered: the keys of the models that it may evict first. */
  readonly spares: (readonly string[])[] = [];
  answered = 0;
  submitted = 0;
  loadMs = 5;
  /** Requests without an answer that no replica has: the keys of their models, by their feeds. */
  readonly waiting = new Map<ReadFeeds, string>();
  /** Those of them that lost a replica. */
  readonly lost = new Set<ReadFeeds>();
  readonly #models = new Map<string, RoutedModel>();

  constructor(runMs: Record<string, number>, options: Partial<DispatcherOptions> = {}) {
    this.runMs = runMs;
    const defaults = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false } as const;
    const observer = fakeObserver({ expressNeeded: (isNeeded) => this.needs.push(isNeeded) });
    this.dispatcher = new Dispatcher({ ...defaults, ...options }, () => 0, this.clock, observer);
  }

  add(id: string, { maxModels = 10, isExpress = false } = {}): FakeReplica {
    const replica = new FakeReplica(id, maxModels, {
      modelChanged: (changed, key) => this.#modelChanged(changed, key),
      given: (to, dispatch) => {
        this.replicas.get(to)?.given.push(dispatch);
        for (const feeds of feedsOf(dispatch)) this.#leave(feeds);
        this.onGiven(to, dispatch);
      },
    });
    replica.isExpress = isExpress;
    this.replicas.set(replica, { given: [], endsAt: undefined });
    this.dispatcher.addReplica(replica);
    return replica;
  }

  addExpress(how: { maxModels?: number } = {}): FakeReplica {
    return this.add('express', { ...how, isExpress: true });
  }

  async crash(replica: FakeReplica): Promise<void> {
    for (const dispatch of this.replicas.get(replica)?.given ?? []) {
      for (const feeds of feedsOf(dispatch)) {
        this.waiting.set(feeds, dispatch.model.key);
        this.lost.add(feeds);
      }
    }
    this.replicas.delete(replica);
    replica.crash((error) => this.dispatcher.removeReplica(replica, error));
    await flush();
  }

  submit(model: RoutedModel, terms: Partial<RoutedRequest> = {}): Promise<RoutedResult> {
    this.submitted += 1;
    this.#models.set(model.key, model);
    const request = { ...fakeRequest(model), ...terms };
    this.waiting.set(request.feeds, model.key);
    const answer = this.dispatcher.submit(request, (result) => ({ ...result }));
    answer.then(
      () => {
        this.answered += 1;
        this.#leave(request.feeds);
      },
      (error: InfermuxError) => {
        this.errors.push(error);
        this.#leave(request.feeds);
      },
    );
    return answer;
  }

  #leave(feeds: ReadFeeds): void {
    this.waiting.delete(feeds);
    this.lost.delete(feeds);
  }

  /** A caller that sends a request, waits for the answer, pauses, and sends the next, until the clock says `until`. */
  async call(model: RoutedModel, { until = Number.POSITIVE_INFINITY, pauseMs = 0 } = {}): Promise<RoutedResult[]> {
    const results: RoutedResult[] = [];
    while (this.clock.now() < until) {
      results.push(await this.submit(model));
      if (pauseMs > 0) await new Promise<void>((resolve) => this.clock.schedule(resolve, pauseMs));
    }
    return results;
  }

  /** Lets time pass. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.clock.now() + milliseconds;
    while (this.clock.now() < end) await this.tick();
  }

  /** Lets time pass until all requests have their answers. */
  async settle(): Promise<void> {
    for (let ticks = 0; !this.dispatcher.isIdle && ticks < 20_000; ticks += 1) await this.tick();
  }

  async tick(): Promise<void> {
    for (const [replica, work] of this.replicas) this.#begin(replica, work);
    this.clock.advance(1);
    for (const [replica, work] of this.replicas) {
      if (work.endsAt === undefined || work.endsAt > this.clock.now()) continue;
      work.endsAt = undefined;
      const [first] = work.given;
      if (!replica.isLoading) {
        replica.runMs = this.runMs[first?.model.id ?? ''] ?? 1;
        work.given.shift();
      }
      replica.step();
    }
    await flush();
  }

  #begin(replica: FakeReplica, work: Work): void {
    const [first] = work.given;
    if (work.endsAt !== undefined || (first === undefined && !replica.isLoading)) return;
    const requests = first === undefined ? 0 : feedsOf(first).length;
    const milliseconds = replica.isLoading ? this.loadMs : requests * (this.runMs[first?.model.id ?? ''] ?? 1);
    work.endsAt = this.clock.now() + milliseconds;
  }

  #modelChanged(replica: FakeReplica, key: string): void {
    const model = this.#models.get(key);
    if (replica.models.get(key) === 'loading') this.spares.push(replica.spare);
    if (model !== undefined && replica.models.get(key) === 'loaded')
      this.dispatcher.modelLoaded(replica, model, this.loadMs, METADATA);
    this.dispatcher.modelChanged(replica, key);
  }
}
