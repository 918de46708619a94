import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { FakeReplica } from '../../../support/fakes/fake-replica.js';
import { fakeModel } from '../../../support/fakes/fake-requests.js';
import { TimedWorld } from '../../../support/routing/timed-world.js';

const RUN_MS = { tiny: 1, small: 3, long: 60, longer: 90 };
const MODELS = ['tiny', 'small', 'long', 'longer'].map((id) => fakeModel(id));
const SHORT = new Set(['tiny', 'small']);

/** A request that loses two replicas is answered so, and one whose model was loading when a replica died. */
const CODES = ['CANCELLED', 'DEADLINE_EXCEEDED', 'REPLICA_FAILED', 'MODEL_LOAD_FAILED'];

type Command =
  | { readonly kind: 'submit'; readonly model: number; readonly priority: number; readonly timeoutMs?: number }
  | { readonly kind: 'cancel'; readonly request: number }
  | { readonly kind: 'pass'; readonly milliseconds: number }
  | { readonly kind: 'crash'; readonly replica: number }
  | { readonly kind: 'crash-express' | 'stop-express' | 'unload' };

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record(
      {
        kind: fc.constant('submit' as const),
        model: fc.nat(MODELS.length - 1),
        priority: fc.integer({ min: -1, max: 1 }),
        timeoutMs: fc.integer({ min: 0, max: 200 }),
      },
      { requiredKeys: ['kind', 'model', 'priority'] },
    ),
  },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), milliseconds: fc.integer({ min: 1, max: 60 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cancel' as const), request: fc.nat(100) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), replica: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('crash-express', 'stop-express', 'unload') }) },
);

/** Runs commands against a dispatcher that has an express replica whenever it wants one, and notes what must not be. */
class Mix {
  readonly world: TimedWorld;
  readonly violations: string[] = [];
  readonly #regular: FakeReplica[] = [];
  readonly #maxOngoing: number;
  readonly #maxModels: number;
  readonly #controllers: AbortController[] = [];
  express: FakeReplica | undefined;
  expressRuns = 0;
  #born = 0;

  constructor(replicas: number, maxOngoing: number, maxModels: number) {
    this.#maxOngoing = maxOngoing;
    this.#maxModels = maxModels;
    this.world = new TimedWorld(RUN_MS, { maxOngoingRequests: maxOngoing });
    this.world.onGiven = (to, { model }) => this.#onGiven(to, model.id);
    for (let index = 0; index < replicas; index += 1) this.#add();
  }

  #add(): void {
    this.#regular.push(this.world.add(`r${this.#born++}`));
  }

  #onGiven(to: FakeReplica, id: string): void {
    const note = (isWrong: boolean, what: string) => isWrong && this.violations.push(`${id} on ${to.id}: ${what}`);
    note(this.#maxOngoing !== -1 && to.ongoing > this.#maxOngoing, 'given beyond the bound');
    note(to.isLoading, 'given to a replica that loads');
    if (to === this.express) {
      this.expressRuns += 1;
      note(!SHORT.has(id), 'a long run');
      note(to.dispatches > 1, 'given ahead');
      note(to.models.get(`${id}@1`) !== 'loaded', 'not loaded');
    } else {
      note(to.dispatches > 2, 'given a third dispatch');
      const isServed = this.express?.models.get(`${id}@1`) === 'loaded' && !this.express.isLoading;
      const running = this.world.replicas.get(to)?.given[0]?.model.id ?? '';
      note(to.dispatches > 1 && isServed && SHORT.has(id) && !SHORT.has(running), `given ahead behind ${running}`);
    }
  }

  async run(step: Command): Promise<void> {
    switch (step.kind) {
      case 'submit': {
        const controller = new AbortController();
        this.#controllers.push(controller);
        const now = this.world.clock.now();
        const deadline = step.timeoutMs === undefined ? undefined : now + step.timeoutMs;
        const model = MODELS[step.model] ?? fakeModel('none');
        const terms = { priority: step.priority, deadline, signal: controller.signal };
        this.world.submit(model, terms).catch(() => undefined);
        break;
      }
      case 'cancel':
        this.#controllers[step.request % Math.max(1, this.#controllers.length)]?.abort();
        break;
      case 'pass':
        await this.#pass(step.milliseconds);
        break;
      case 'crash': {
        const [replica] = this.#regular.splice(step.replica % this.#regular.length, 1);
        if (replica !== undefined) await this.world.crash(replica);
        this.#add();
        break;
      }
      case 'unload': {
        const { express } = this;
        const [key] = express?.models.keys() ?? [];
        if (express === undefined || key === undefined || express.dispatches > 0 || express.isLoading) break;
        express.models.delete(key);
        this.world.dispatcher.modelChanged(express, key);
        break;
      }
      case 'crash-express':
      case 'stop-express': {
        const { express } = this;
        this.express = undefined;
        if (express === undefined) break;
        if (step.kind === 'crash-express') await this.world.crash(express);
        // It finishes what it was given.
        else this.world.dispatcher.removeReplica(express);
        break;
      }
    }
  }

  /** The replica is there some milliseconds after it was found to be needed. */
  async #pass(milliseconds: number): Promise<void> {
    for (let tick = 0; tick < milliseconds; tick += 1) {
      await this.world.tick();
      this.#checkNoShortRunWaitsForMoreThanOne();
    }
    if (this.world.needs.at(-1) === true) this.express ??= this.world.addExpress({ maxModels: this.#maxModels });
  }

  /**
   * While the express replica is idle, no short run that it has loaded waits. It is never given a run ahead, and none of
   * others goes before: so what is first waits for the one that runs there, and for no more.
   */
  #checkNoShortRunWaitsForMoreThanOne(): void {
    const { express } = this;
    if (express === undefined || express.dispatches > 0 || express.isLoading) return;
    // A request that lost a replica does not go there, and holds up its model.
    const lost = new Set([...this.world.lost].map((feeds) => this.world.waiting.get(feeds)));
    for (const key of this.world.waiting.values()) {
      if (express.models.get(key) !== 'loaded' || lost.has(key)) continue;
      this.violations.push(`${key} waits though the express replica is idle`);
    }
  }
}

it('loses no request, keeps all bounds, and lets a short run wait for one other at most, whatever happens', async () => {
  let expressRuns = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        replicas: fc.integer({ min: 1, max: 3 }),
        maxOngoing: fc.constantFrom(-1, 1, 3),
        maxModels: fc.constantFrom(1, 2),
        commands: fc.array(command, { minLength: 60, maxLength: 200, size: 'max' }),
      }),
      async ({ replicas, maxOngoing, maxModels, commands }) => {
        const mix = new Mix(replicas, maxOngoing, maxModels);
        for (const step of commands) await mix.run(step);
        await mix.world.settle();
        expressRuns += mix.expressRuns;
        expect(mix.violations).toEqual([]);
        expect(mix.world.dispatcher.queued).toBe(0);
        expect(mix.world.answered + mix.world.errors.length).toBe(mix.world.submitted);
        for (const { code } of mix.world.errors) expect(CODES).toContain(code);
      },
    ),
    { numRuns: 60, interruptAfterTimeLimit: 15_000 },
  );
  expect(expressRuns).toBeGreaterThan(20);
});
