import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Order, RouterName } from '../../../dist/contracts/request-router.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { fakeObserver } from '../../support/fakes/fake-observer.js';
import { FakeReplica, feedsOf } from '../../support/fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';

const MODELS = Array.from({ length: 4 }, (_, index) => fakeModel(`m${index}`));

interface Sent {
  readonly model: number;
  readonly priority: number;
}

/** Replicas that have every model, or few at a time, and note in which order they are given requests, one at a time. */
class TurnsWorld {
  readonly clock = new FakeClock();
  readonly replicas: FakeReplica[] = [];
  readonly sent: Sent[] = [];
  readonly given: Sent[] = [];
  /** Requests that wait, in the order of their arrival. */
  waiting: Sent[] = [];
  readonly dispatcher: Dispatcher<FakeReplica>;
  readonly #byFeeds = new Map<object, Sent>();

  constructor(replicas: number, router: RouterName, order: Order, maxModels: number = MODELS.length) {
    const options = { maxOngoingRequests: 1, maxQueuedRequests: -1, batching: false, router, order } as const;
    this.dispatcher = new Dispatcher<FakeReplica>(options, () => 0.5, this.clock, fakeObserver());
    for (let index = 0; index < replicas; index += 1) {
      const replica = new FakeReplica(`r${index}`, maxModels, {
        modelChanged: (changed, modelKey) => this.dispatcher.modelChanged(changed, modelKey),
        given: (_, dispatch) => {
          for (const feeds of feedsOf(dispatch)) {
            const sent = this.#byFeeds.get(feeds) as Sent;
            this.given.push(sent);
            this.waiting = this.waiting.filter((other) => other !== sent);
          }
        },
      });
      if (maxModels === MODELS.length) for (const { key } of MODELS) replica.models.set(key, 'loaded');
      replica.runMs = 10;
      this.replicas.push(replica);
      this.dispatcher.addReplica(replica);
    }
  }

  submit(model: number, priority: number, signal?: AbortSignal): void {
    const request = fakeRequest(MODELS[model] as (typeof MODELS)[0], {
      x: { type: 'float32', dims: [1], data: new Float32Array(1) },
    });
    const sent = { model, priority };
    this.#byFeeds.set(request.feeds, sent);
    this.sent.push(sent);
    this.waiting.push(sent);
    this.dispatcher
      .submit({ ...request, priority, signal }, () => undefined)
      .catch(() => {
        this.waiting = this.waiting.filter((other) => other !== sent);
      });
  }

  async step(replica: number): Promise<void> {
    this.replicas[replica % this.replicas.length]?.step();
    await flush();
  }
}

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      model: fc.nat(MODELS.length - 1),
      priority: fc.constantFrom(-1, 0, 5),
      times: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ replica: fc.nat(2) }) },
);
const steps = fc.array(step, { maxLength: 150, size: 'max' });

const ORDERS: [RouterName, Order][] = [
  ['power-of-two-choices', 'model'],
  ['uniform', 'model'],
  ['power-of-two-choices', 'fifo'],
  ['uniform', 'fifo'],
];

describe.each(ORDERS)('with router %s and order %s, whatever the priorities', (router, order) => {
  it('no model is served twice by each replica while another one waits, or all go as they came', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 3 }), steps, async (replicas, taken) => {
        const world = new TurnsWorld(replicas, router, order);
        /** For each model that waits: how often each other one was served meanwhile. */
        const passed = MODELS.map(() => MODELS.map(() => 0));
        let seen = 0;
        const check = () => {
          for (const { model, priority } of world.given.slice(seen)) {
            seen += 1;
            for (const counts of passed) counts[model] = (counts[model] ?? 0) + 1;
            passed[model]?.fill(0);
            const before = world.waiting.filter((other) => other.model === model && other.priority > priority);
            expect(before, 'of its own model, and of higher priority').toEqual([]);
          }
          for (const model of MODELS.keys()) {
            if (!world.waiting.some((other) => other.model === model)) passed[model]?.fill(0);
            else if (order === 'model') expect(Math.max(...(passed[model] ?? []))).toBeLessThanOrEqual(replicas);
          }
        };
        for (const one of taken) {
          if ('replica' in one) await world.step(one.replica);
          else for (let time = 0; time < one.times; time += 1) world.submit(one.model, one.priority);
          check();
        }
        for (let round = 0; world.given.length < world.sent.length; round += 1) {
          await world.step(round);
          check();
        }
        if (order === 'fifo')
          expect(world.given.map(({ model }) => model)).toEqual(world.sent.map(({ model }) => model));
      }),
      { numRuns: 100 },
    );
  });

  it.each([1, MODELS.length])(
    'a flow of high priority for one model does not hold up another, with room for %i',
    async (room) => {
      const world = new TurnsWorld(1, router, order, room);
      for (let call = 0; call < 8; call += 1) world.submit(0, 5);
      world.submit(1, -5);
      for (let round = 0; round < 60 && !world.given.some(({ model }) => model === 1); round += 1) {
        world.submit(0, 5);
        await world.step(0);
      }
      expect(world.given.findIndex(({ model }) => model === 1)).toBeGreaterThan(-1);
      // All that waited for the first model came before.
      expect(world.given.findIndex(({ model }) => model === 1)).toBeLessThanOrEqual(8);
    },
  );

  it('a new request of high priority loses its model no place', async () => {
    const world = new TurnsWorld(1, router, order);
    world.submit(2, 0);
    // The first model waits longest, and its newest request hides that.
    for (const [model, priority] of [
      [0, 0],
      [1, 0],
      [3, 0],
      [0, 5],
    ] as const)
      world.submit(model, priority);
    await world.step(0);
    expect(world.given[1]).toEqual({ model: 0, priority: 5 });
  });

  it('a place is lost with the request that is cancelled', async () => {
    const world = new TurnsWorld(1, router, order);
    const controller = new AbortController();
    world.submit(2, 0);
    world.submit(0, 0, controller.signal);
    world.submit(1, 0);
    world.submit(0, 0);
    controller.abort();
    await world.step(0);
    expect(world.given[1]?.model).toBe(1);
  });
});
