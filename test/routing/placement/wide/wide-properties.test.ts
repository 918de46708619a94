import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isWideKey } from '../../../../dist/contracts/model-reference.js';
import { Dispatcher } from '../../../../dist/routing/dispatcher.js';
import { FakeClock } from '../../../support/fakes/fake-clock.js';
import { fakeObserver } from '../../../support/fakes/fake-observer.js';
import { FakeReplica } from '../../../support/fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../../../support/fakes/fake-requests.js';
import { flush } from '../../../support/flush.js';

const HEAVY = fakeModel('heavy');
const OTHER = fakeModel('other');
const MAX_MODELS = 2;
const RUN_MS = 10;
const WIDE_MS = 2;

type Command =
  | { readonly kind: 'submit'; readonly model: typeof HEAVY }
  | { readonly kind: 'step' | 'crash' | 'drain' | 'load'; readonly replica: number }
  | { readonly kind: 'cancel'; readonly request: number }
  | { readonly kind: 'advance'; readonly milliseconds: number };

const onReplica = (kind: 'step' | 'crash' | 'drain' | 'load') =>
  fc.record({ kind: fc.constant(kind), replica: fc.nat(3) });
const commands: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant('submit' as const),
        model: fc.oneof({ weight: 5, arbitrary: fc.constant(HEAVY) }, { weight: 1, arbitrary: fc.constant(OTHER) }),
      }),
    },
    { weight: 8, arbitrary: onReplica('step') },
    { weight: 1, arbitrary: onReplica('crash') },
    { weight: 1, arbitrary: onReplica('drain') },
    { weight: 1, arbitrary: onReplica('load') },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), request: fc.nat(40) }) },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('advance' as const), milliseconds: fc.integer({ min: 1, max: 12 }) }),
    },
  ),
  { minLength: 20, maxLength: 80 },
);

/** A deployment whose heavy model has a wide session in use, without threads. */
class World {
  readonly clock = new FakeClock();
  readonly replicas: FakeReplica[] = [];
  readonly #all: FakeReplica[] = [];
  readonly controllers: AbortController[] = [];
  readonly violations: string[] = [];
  settled = 0;
  wideRuns = 0;
  readonly dispatcher: Dispatcher<FakeReplica>;
  #born = 0;

  constructor(cores: number, replicas: number) {
    this.clock.advance(1_000);
    const options = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false, cores } as const;
    this.dispatcher = new Dispatcher(options, () => 0, this.clock, fakeObserver());
    for (let count = 0; count < replicas; count += 1) this.add();
  }

  add(): void {
    const replica = new FakeReplica(`r${this.#born++}`, MAX_MODELS, {
      modelChanged: (changed, modelKey) => this.dispatcher.modelChanged(changed, modelKey),
      given: (to, { model: { key } }) => {
        const others = this.#all.filter((other) => other !== to && other.dispatches > 0);
        if (!isWideKey(key)) return;
        this.wideRuns += 1;
        if (others.length > 0) this.violations.push(`${to.id} runs wide beside ${others.map(({ id }) => id)}`);
        if (!to.models.has(key)) this.violations.push('a request waits for a wide session to be loaded');
      },
    });
    replica.runMs = RUN_MS;
    replica.wideMs = WIDE_MS;
    const others = () => this.#all.filter((other) => other !== replica && other.dispatches > 0).length;
    Object.defineProperty(replica, 'othersAtWork', { get: others });
    replica.models.set(HEAVY.key, 'loaded');
    this.replicas.push(replica);
    this.#all.push(replica);
    this.dispatcher.addReplica(replica);
    this.dispatcher.modelChanged(replica, HEAVY.key);
  }

  submit(model: typeof HEAVY): void {
    const controller = new AbortController();
    this.controllers.push(controller);
    const settle = () => {
      this.settled += 1;
    };
    this.dispatcher.submit({ ...fakeRequest(model), signal: controller.signal }, () => undefined).then(settle, settle);
  }

  async do(command: Command): Promise<void> {
    const replica = 'replica' in command ? this.replicas[command.replica] : undefined;
    if (command.kind === 'submit') this.submit(command.model);
    else if (command.kind === 'cancel') this.controllers[command.request]?.abort();
    else if (command.kind === 'advance') this.clock.advance(command.milliseconds);
    else if (replica === undefined) return;
    else if (command.kind === 'step') replica.step();
    else if (command.kind === 'load') {
      if (!replica.isLoading && !replica.models.has(OTHER.key))
        void replica.load(OTHER).then(undefined, () => undefined);
    } else {
      this.replicas.splice(this.replicas.indexOf(replica), 1);
      if (command.kind === 'crash') replica.crash((crash) => this.dispatcher.removeReplica(replica, crash));
      else this.dispatcher.removeReplica(replica);
      this.add();
    }
    await flush();
    if (this.replicas.some(({ models }) => models.size > MAX_MODELS + 1)) this.violations.push('too many models');
  }

  /** Callers of the heavy model that ask again when they are answered. */
  async call(callers: number, rounds: number): Promise<void> {
    let left = callers * rounds;
    const caller = async () => {
      for (; left > 0; left -= 1) await this.dispatcher.submit(fakeRequest(HEAVY), () => undefined);
    };
    let isOver = false;
    const all = Promise.all(Array.from({ length: callers }, caller)).then(() => {
      isOver = true;
    });
    while (!isOver) {
      await flush();
      this.clock.advance(this.replicas.some(({ running }) => running !== HEAVY.key && running) ? WIDE_MS : RUN_MS);
      for (const replica of this.replicas) replica.step();
    }
    await all;
  }

  /** All replicas, also those that drain, work until they have nothing to do. */
  async end(): Promise<void> {
    for (let round = 0; round < 500 && !this.dispatcher.isIdle; round += 1) {
      for (const replica of this.#all) replica.step();
      await flush();
      this.clock.advance(RUN_MS);
    }
    await flush();
  }
}

it('whatever happens, every request is answered, and no wide run shares the cores', async () => {
  let wideRuns = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(2, 4, 8),
      fc.integer({ min: 2, max: 4 }),
      commands,
      async (cores, replicas, all) => {
        const world = new World(cores, replicas);
        await world.call(1, 50);
        await world.call(2, 30);
        for (const command of all) await world.do(command);
        await world.end();
        expect(world.violations).toEqual([]);
        expect(world.settled).toBe(world.controllers.length);
        wideRuns += world.wideRuns;
      },
    ),
    { numRuns: 60 },
  );
  expect(wideRuns).toBeGreaterThan(1_000);
});
