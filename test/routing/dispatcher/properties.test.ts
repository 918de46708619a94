import fc from 'fast-check';
import { expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import { ExpectedTimes } from '../../../dist/routing/estimates/expected-times.js';
import type { RoutedRequest } from '../../../dist/routing/pending-request.js';
import type { ModelMetadata, ReadFeeds, ValueMetadata } from '../../../dist/tensors/tensor.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { fakeObserver } from '../../support/fakes/fake-observer.js';
import { FakeReplica, feedsOf } from '../../support/fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';

type Command =
  | {
      readonly kind: 'submit';
      readonly model: number;
      readonly priority: number;
      readonly timeoutMs: number | undefined;
      readonly rows: number;
    }
  | { readonly kind: 'cancel'; readonly request: number }
  | { readonly kind: 'step'; readonly replica: number }
  | { readonly kind: 'fail-load'; readonly replica: number }
  | { readonly kind: 'crash'; readonly replica: number }
  | { readonly kind: 'advance'; readonly milliseconds: number };

const MODELS = 6;
/** The guess for a model of the fakes' size; no load is measured here. */
const EXPECTED_LOAD_MS = new ExpectedTimes(fakeModel('any').bytes).loadMs;

/** A wait that is worth a load, however soon the model's replicas are expected to be done. */
const MOST_WAIT_MS = 20;

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      model: fc.nat(MODELS - 1),
      priority: fc.integer({ min: -1, max: 1 }),
      timeoutMs: fc.option(fc.integer({ min: 0, max: 40 }), { nil: undefined }),
      rows: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('step' as const), replica: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), request: fc.nat(60) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), replica: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail-load' as const), replica: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('advance' as const), milliseconds: fc.integer({ min: 1, max: 20 }) }),
  },
);

const VALUE: ValueMetadata = { name: 'x', type: 'float32', shape: ['N'] };
const METADATA: ModelMetadata = { inputs: [VALUE], outputs: [VALUE], omittedOutputs: [] };
/** Most rows of a batch: small, so that some are full. */
const MAX_SIZE = 4;

interface Tracked {
  readonly request: RoutedRequest;
  readonly priority: number;
  readonly sequence: number;
  readonly acceptedAt: number;
  readonly deadline: number | undefined;
  readonly controller: AbortController;
  isWaiting: boolean;
  settled: number;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** An engine without threads, which checks at every dispatch what must hold then. */
class World {
  readonly clock = new FakeClock();
  readonly requests: Tracked[] = [];
  readonly replicas: FakeReplica[] = [];
  /** Those that are gone, too. */
  readonly #all: FakeReplica[] = [];
  readonly dispatcher: Dispatcher<FakeReplica>;
  readonly violations: string[] = [];
  holds = 0;
  readonly #maxModels: number;
  readonly #runMs: number;
  readonly #maxOngoing: number;
  /** Milliseconds that requests wait for company; undefined where none are joined. */
  readonly #maxWaitMs: number | undefined;
  /** Models whose load has failed or ended a replica: for a while they are not to spill. */
  readonly #barred = new Set<string>();
  /** Replica and model of each load under way. */
  readonly #loads = new Set<string>();
  /** Clock time at which a load of the model ended last, by its key. */
  readonly #loadEndedAt = new Map<string, number>();
  #born = 0;
  #submitted: Tracked | undefined;

  constructor(
    replicas: number,
    maxModels: number,
    maxQueuedRequests: number,
    runMs: number,
    maxOngoing: number,
    lookAfterRequests: number,
    maxWaitMs: number | undefined,
    random: () => number,
  ) {
    this.#maxModels = maxModels;
    this.#runMs = runMs;
    this.#maxOngoing = maxOngoing;
    this.#maxWaitMs = maxWaitMs;
    const batching = maxWaitMs === undefined ? 'auto' : { maxWaitMs, maxSize: MAX_SIZE };
    this.dispatcher = new Dispatcher(
      { maxOngoingRequests: maxOngoing, maxQueuedRequests, batching, lookAfterRequests },
      random,
      this.clock,
      fakeObserver({
        busy: () => {
          this.holds += 1;
        },
        idle: () => {
          this.holds -= 1;
        },
        // The request that is being submitted is over by that, though its caller is told later.
        failed: (_, { code }) => {
          if (code === 'QUEUE_FULL' && this.#submitted !== undefined) this.#submitted.isWaiting = false;
        },
      }),
    );
    for (let index = 0; index < replicas; index += 1) this.addReplica();
  }

  addReplica(): void {
    const replica = new FakeReplica(`r${this.#born++}`, this.#maxModels, {
      modelChanged: (changed, modelKey) => {
        const load = `${changed.id} ${modelKey}`;
        if (changed.models.get(modelKey) === 'loading') this.#loads.add(load);
        else if (this.#loads.delete(load)) this.#loadEndedAt.set(modelKey, this.clock.now());
        const isLoaded = changed.models.get(modelKey) === 'loaded';
        const model = this.requests.find(({ request }) => request.model.key === modelKey)?.request.model;
        // Only with its metadata is it known that its requests can be joined.
        if (isLoaded && model !== undefined && this.#maxWaitMs !== undefined)
          this.dispatcher.modelLoaded(changed, model, EXPECTED_LOAD_MS, METADATA);
        this.dispatcher.modelChanged(changed, modelKey);
      },
      given: (to, dispatch) => {
        if (!to.models.has(dispatch.model.key)) this.#checkLoad(to, dispatch.model.key, feedsOf(dispatch));
        for (const feeds of feedsOf(dispatch)) this.#onGiven(to, feeds);
        for (const { joined, feeds } of dispatch.groups) {
          const rows = feeds.reduce((sum, { x }) => sum + (x?.dims[0] ?? 0), 0);
          if (joined && this.#maxWaitMs !== undefined && rows > MAX_SIZE) this.violations.push('too large a batch');
        }
      },
    });
    replica.runMs = this.#runMs;
    this.replicas.push(replica);
    this.#all.push(replica);
    this.dispatcher.addReplica(replica);
  }

  /** A load that follows from a wait is the only one of its model, and the wait has paid for what it evicts. */
  #checkLoad(replica: FakeReplica, modelKey: string, own: readonly ReadFeeds[]): void {
    const warm = this.replicas.filter(({ models }) => models.has(modelKey));
    if (warm.length === 0 || replica.freeModels > 0) return;
    if (warm.some(({ models }) => models.get(modelKey) === 'loading')) this.violations.push('a second load by waiting');
    // How long one has waited that lost its replica, nobody noted.
    const given = new Set(this.replicas.flatMap(({ requests }) => requests));
    for (const feeds of own) given.delete(feeds);
    const isBack = ({ request, isWaiting, settled }: Tracked) =>
      request.model.key === modelKey && !isWaiting && settled === 0 && !given.has(request.feeds);
    if (this.requests.some(isBack)) return;
    const waits = this.#waitsFor(modelKey);
    if (sum(waits) < 0.999 * EXPECTED_LOAD_MS) this.violations.push(`${modelKey}: an eviction for a wait of ${waits}`);
  }

  /** Milliseconds that each waiting request for the model has waited since the last load of it. */
  #waitsFor(modelKey: string): number[] {
    const now = this.clock.now();
    const endedAt = this.#loadEndedAt.get(modelKey) ?? 0;
    return this.requests
      .filter(({ request, isWaiting, controller }) => {
        return isWaiting && !controller.signal.aborted && request.model.key === modelKey;
      })
      .map(({ acceptedAt }) => now - Math.max(acceptedAt, endedAt));
  }

  /** One that was cancelled or expired in this turn is over, though nobody was told yet. */
  #isOver({ controller, deadline }: Tracked): boolean {
    return controller.signal.aborted || (deadline !== undefined && deadline <= this.clock.now());
  }

  #onGiven(replica: FakeReplica, feeds: ReadFeeds): void {
    const tracked = this.requests.find((other) => other.request.feeds === feeds) as Tracked;
    const { request } = tracked;
    // Noted, not thrown: the dispatcher would take an exception here for an answer.
    const note = (isWrong: boolean, what: string) => isWrong && this.violations.push(`${request.model.id}: ${what}`);
    note(this.#maxOngoing !== -1 && replica.ongoing > this.#maxOngoing, 'given beyond the bound');
    note(replica.dispatches > 2, 'given a third dispatch');
    note(replica.isLoading, 'given to a replica that loads');
    const isOvertaken = (waiting: Tracked) => waiting.isWaiting && !this.#isOver(waiting) && comesFirst(waiting);
    const comesFirst = ({ request: other, priority, sequence }: Tracked) =>
      other.model.key === request.model.key &&
      (priority > tracked.priority || (priority === tracked.priority && sequence < tracked.sequence));
    note(this.requests.some(isOvertaken), 'given before another one whose turn it was');
    tracked.isWaiting = false;
  }

  async run(step: Command): Promise<void> {
    const replica = 'replica' in step ? this.replicas[step.replica % this.replicas.length] : undefined;
    switch (step.kind) {
      case 'submit':
        this.#submit(step);
        break;
      case 'cancel':
        this.requests[step.request % Math.max(1, this.requests.length)]?.controller.abort();
        break;
      case 'step':
        replica?.step();
        break;
      case 'fail-load':
        if (replica?.loadUnderWay === undefined) break;
        this.#barred.add(replica.loadUnderWay.key);
        replica.failLoad(new InfermuxError('MODEL_LOAD_FAILED', 'broken'));
        break;
      case 'crash':
        if (replica?.loadUnderWay !== undefined) {
          this.#barred.add(replica.loadUnderWay.key);
          this.#loadEndedAt.set(replica.loadUnderWay.key, this.clock.now());
        }
        this.replicas.splice(this.replicas.indexOf(replica as FakeReplica), 1);
        replica?.crash((error) => this.dispatcher.removeReplica(replica, error));
        await flush();
        this.addReplica();
        break;
      case 'advance':
        this.clock.advance(step.milliseconds);
        break;
    }
    await flush();
    this.#checkNobodyWaitsInVain();
    this.#checkTrials();
  }

  #submit({ model, priority, timeoutMs, rows: wanted }: Command & { kind: 'submit' }): void {
    // A message puts those of the same shape together, if they are not joined, and their order is not to be held against it.
    const rows = this.#maxWaitMs === undefined ? 1 : wanted;
    const tracked: Tracked = {
      request: fakeRequest(fakeModel(`m${model}`), {
        x: { type: 'float32', dims: [rows], data: new Float32Array(rows) },
      }),
      priority,
      sequence: this.requests.length,
      acceptedAt: this.clock.now(),
      deadline: timeoutMs === undefined ? undefined : this.clock.now() + timeoutMs,
      controller: new AbortController(),
      isWaiting: true,
      settled: 0,
    };
    this.requests.push(tracked);
    this.#submitted = tracked;
    const settle = () => {
      tracked.settled += 1;
      tracked.isWaiting = false;
    };
    this.dispatcher
      .submit(
        { ...tracked.request, priority, deadline: tracked.deadline, signal: tracked.controller.signal },
        (result) => ({ ...result }),
      )
      .then(settle, settle);
  }

  /** No lost wake-up: what waits while a replica is idle waits for replicas that have its model. */
  #checkNobodyWaitsInVain(): void {
    const idle = this.replicas.filter(({ ongoing }) => ongoing === 0);
    if (idle.length === 0 || this.dispatcher.queued === 0) return;
    for (const { request, isWaiting, acceptedAt } of this.requests) {
      if (!isWaiting) continue;
      // For company, if for nothing else.
      if (this.clock.now() - acceptedAt < (this.#maxWaitMs ?? 0)) continue;
      const holders = this.replicas.filter(({ models }) => models.has(request.model.key));
      const isLoading = holders.some(({ models }) => models.get(request.model.key) === 'loading');
      if (!this.#barred.has(request.model.key) && this.#hasLoaded(request.model.key) && !isLoading) {
        const waits = this.#waitsFor(request.model.key);
        // Where loads are measured, what is expected to run soon is waited for.
        const mostMs = this.#maxWaitMs === undefined ? EXPECTED_LOAD_MS : MOST_WAIT_MS;
        expect(sum(waits), `${request.model.id} could spill`).toBeLessThan(waits.length * mostMs);
      }
      expect(holders.length, `${request.model.id} waits though a replica is idle`).toBeGreaterThan(0);
      expect(
        holders.every(({ ongoing }) => ongoing > 0),
        `${request.model.id} waits though a replica that has it is idle`,
      ).toBe(true);
    }
  }

  /** A model that has never loaded is tried by one replica at a time. */
  #checkTrials(): void {
    for (const key of new Set(this.requests.map(({ request }) => request.model.key))) {
      if (this.#hasLoaded(key)) continue;
      const trying = this.replicas.filter(({ models }) => models.has(key));
      expect(trying.length, `replicas that try ${key}`).toBeLessThan(2);
    }
  }

  #hasLoaded(modelKey: string): boolean {
    return this.#all.some(({ loads }) => loads.includes(modelKey));
  }

  async drain(): Promise<void> {
    let rounds = 0;
    for (let busy = true; busy; ) {
      rounds += 1;
      expect(rounds, 'rounds without an end').toBeLessThan(1_000);
      busy = false;
      for (const replica of this.replicas) busy = replica.step() || busy;
      await flush();
      if (!busy && this.dispatcher.queued > 0 && this.#maxWaitMs !== undefined) {
        this.clock.advance(this.#maxWaitMs);
        busy = true;
      }
    }
  }
}

it('settles every request exactly once, in order, within bounds, and wakes whatever can run, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        replicas: fc.integer({ min: 1, max: 4 }),
        maxModels: fc.integer({ min: 1, max: 3 }),
        maxQueued: fc.constantFrom(-1, 0, 3),
        // One by one, many in a message, and long runs.
        runMs: fc.constantFrom(1, 0.2, 12),
        maxOngoing: fc.constantFrom(-1, 1, 2, 5),
        lookAfter: fc.constantFrom(1, 3, 256),
        maxWait: fc.constantFrom(undefined, 0, 8),
        seed: fc.nat(),
        commands: fc.array(command, { maxLength: 120, size: 'max' }),
      }),
      async ({ replicas, maxModels, maxQueued, runMs, maxOngoing, lookAfter, maxWait, seed, commands }) => {
        let state = seed + 1;
        const random = () => {
          state = (state * 48_271) % 2_147_483_647;
          return state / 2_147_483_647;
        };
        const world = new World(replicas, maxModels, maxQueued, runMs, maxOngoing, lookAfter, maxWait, random);
        for (const step of commands) await world.run(step);
        await world.drain();
        expect(world.violations).toEqual([]);
        expect(world.requests.map(({ settled }) => settled)).toEqual(world.requests.map(() => 1));
        expect(world.replicas.map(({ ongoing }) => ongoing)).toEqual(world.replicas.map(() => 0));
        expect(world.dispatcher.queued).toBe(0);
        expect(world.clock.timers, 'timers left').toBe(0);
        expect(world.holds).toBe(0);
      },
    ),
    { numRuns: 400, interruptAfterTimeLimit: 15_000 },
  );
});
