import type { InfermuxError } from '../../../dist/common/errors.js';
import type { Order, RequestRouter, RouterName } from '../../../dist/contracts/request-router.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import { FakeClock } from '../fakes/fake-clock.js';
import { fakeObserver } from '../fakes/fake-observer.js';
import { FakeReplica } from '../fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../fakes/fake-requests.js';
import { flush } from '../flush.js';

/** The models that {@link RouterWorld.submit} takes by number. */
export const MODELS = Array.from({ length: 6 }, (_, index) => fakeModel(`m${index}`));

/** A dispatcher with replicas that work when they are told to. */
export class RouterWorld {
  readonly clock: FakeClock;
  readonly replicas: FakeReplica[] = [];
  readonly faults: string[] = [];
  readonly answers: ('answered' | InfermuxError)[] = [];
  /** Requests that each replica was given, by its id. */
  readonly given: string[] = [];
  /** Keys of requests that were answered. */
  readonly keys: (string | undefined)[] = [];
  readonly dispatcher: Dispatcher<FakeReplica>;
  #born = 0;
  submitted = 0;

  constructor(
    router: RouterName | RequestRouter,
    how: { order?: Order; random?: () => number; defers?: boolean } = {},
  ) {
    this.clock = new FakeClock({ defers: how.defers ?? false });
    this.dispatcher = new Dispatcher(
      { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false, router, order: how.order ?? 'model' },
      how.random ?? (() => 0),
      this.clock,
      fakeObserver({ routerFailed: (fault, { message }) => this.faults.push(`${fault}: ${message}`) }),
    );
  }

  add(maxModels = 3): FakeReplica {
    const replica = new FakeReplica(`r${this.#born++}`, maxModels, {
      modelChanged: (changed, modelKey) => this.dispatcher.modelChanged(changed, modelKey),
      given: (to, { model }) => this.given.push(`${model.id}>${to.id}`),
    });
    replica.runMs = 10;
    this.replicas.push(replica);
    this.dispatcher.addReplica(replica);
    return replica;
  }

  submit(model: number, own: { shardKey?: string; labels?: Record<string, string>; priority?: number } = {}): void {
    const request = { ...fakeRequest(MODELS[model % MODELS.length] as (typeof MODELS)[0]), ...own };
    this.submitted += 1;
    this.dispatcher
      .submit(request, () => {
        this.keys.push(own.shardKey);
        return 'answered' as const;
      })
      .then(
        (answer) => this.answers.push(answer),
        (error: InfermuxError) => this.answers.push(error),
      );
  }

  async crash(index: number): Promise<void> {
    const [replica] = this.replicas.splice(index % this.replicas.length, 1);
    replica?.crash((error) => this.dispatcher.removeReplica(replica, error));
    await flush();
    this.add();
  }

  /** Lets all replicas work until nothing is left to do. */
  async settle(): Promise<void> {
    for (let round = 0; round < 2_000 && this.answers.length < this.submitted; round += 1) {
      for (const replica of this.replicas) replica.step();
      await flush();
      this.clock.runDeferred();
      this.clock.advance(1);
      await flush();
    }
  }
}
