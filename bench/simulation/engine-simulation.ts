import type { EvictionName } from '../../dist/contracts/eviction.js';
import type { RequestRouter, RouterName } from '../../dist/contracts/request-router.js';
import { Dispatcher } from '../../dist/routing/dispatcher.js';
import type { DispatcherObserver } from '../../dist/routing/dispatcher-options.js';
import type { RequestPayload } from '../../dist/routing/pending-request.js';
import { createEviction } from '../../dist/worker/sessions/eviction-policies.js';
import { type Outcome, Outcomes } from './outcome.js';
import { type Random, seeded } from './random.js';
import { CRASH_EVERY, QUEUE_LIMIT, REJOIN_AFTER, type Setting, slownessOf } from './setting.js';
import { SimulatedReplica } from './simulated-replica.js';
import { VirtualClock } from './virtual-clock.js';
import { SERVICE_MS, type SimulatedModel, Workload } from './workload.js';

const METADATA = { inputs: [], outputs: [], omittedOutputs: [] };
const nothing = () => undefined;
const never = new AbortController().signal;
/** The parts of a request that are the same for all: everything except the model and the time. */
const TERMS = {
  ...{ feeds: {}, outputs: undefined, checked: true, priority: 0, deadline: undefined, signal: undefined },
  ...{ transferred: undefined, releaseFeeds: undefined, shardKey: undefined, labels: undefined, isShadow: false },
};

/** Simulates the engine's own dispatcher, router and cache policy over simulated replicas. */
export function simulateEngine(
  setting: Setting,
  router: RouterName | RequestRouter,
  eviction: EvictionName,
  seed: number,
): Outcome {
  return new EngineSimulation(setting, router, eviction, seed).run();
}

class EngineSimulation {
  readonly #clock = new VirtualClock();
  readonly #setting: Setting;
  readonly #workload: Workload;
  readonly #eviction: EvictionName;
  readonly #outcomes: Outcomes;
  readonly #random: Random;
  readonly #dispatcher: Dispatcher<SimulatedReplica>;
  readonly #replicas: SimulatedReplica[];

  constructor(setting: Setting, router: RouterName | RequestRouter, eviction: EvictionName, seed: number) {
    this.#setting = setting;
    this.#workload = new Workload(setting, seed);
    this.#outcomes = new Outcomes(setting);
    this.#eviction = eviction;
    // Not the generator of the requests, which must be the same for all routers.
    this.#random = seeded(seed + 1_000_003);
    const options = {
      maxOngoingRequests: -1,
      maxQueuedRequests: QUEUE_LIMIT * setting.replicas,
      batching: false,
      router,
    } as const;
    const observer: DispatcherObserver = {
      ...{ busy: nothing, idle: nothing, submitted: nothing, accepted: nothing, given: nothing, waited: nothing },
      ...{ answered: nothing, called: nothing, batchingSwitchedOff: nothing, expressNeeded: nothing },
      // A request that lost two replicas is lost, which says nothing about the queue.
      failed: ({ code }) => (code === 'QUEUE_FULL' ? this.#outcomes.refused() : this.#outcomes.lost()),
      routerFailed: (_fault, error) => {
        throw error;
      },
    };
    this.#dispatcher = new Dispatcher<SimulatedReplica>(options, this.#random, this.#clock, observer);
    this.#replicas = Array.from({ length: setting.replicas }, (_, index) =>
      this.#addReplica(`replica-${index}`, slownessOf(setting, index)),
    );
  }

  run(): Outcome {
    const { trouble } = this.#setting;
    // Each model is requested once. The measured requests come after that.
    if (trouble !== 'cold') {
      const { models } = this.#workload;
      for (let first = 0; first < models.length; first += QUEUE_LIMIT) {
        for (const model of models.slice(first, first + QUEUE_LIMIT)) this.#submit(model, 0, nothing);
        while (!this.#dispatcher.isIdle) this.#clock.step();
      }
    }
    if (trouble === 'crashing') this.#clock.after(CRASH_EVERY * SERVICE_MS, () => this.#crash());
    const { callers } = this.#setting;
    if (callers === undefined) this.#scheduleArrival();
    else for (let caller = 0; caller < callers; caller += 1) this.#call();
    while (!this.#outcomes.isOver && this.#clock.step());
    return this.#outcomes.result();
  }

  #scheduleArrival(): void {
    const { model, gapMs, serviceMs } = this.#workload.next();
    this.#clock.after(gapMs, () => {
      const request = this.#outcomes.arrived();
      this.#submit(model, serviceMs, (totalMs) => this.#outcomes.answered(request, totalMs));
      if (!this.#outcomes.isAllArrived) this.#scheduleArrival();
    });
  }

  /** Acts as one caller, which sends one request after the other. */
  #call(): void {
    if (this.#outcomes.isAllArrived) return;
    const { model, serviceMs } = this.#workload.next();
    const request = this.#outcomes.arrived();
    this.#submit(model, serviceMs, (totalMs) => {
      this.#outcomes.answered(request, totalMs);
      this.#clock.defer(() => this.#call());
    });
  }

  #submit(model: SimulatedModel, serviceMs: number, answered: (totalMs: number) => void): void {
    const payload: RequestPayload = { value: serviceMs, abandoned: never, abandon: nothing };
    const submitted = this.#dispatcher.submit({ model, payload, ...TERMS }, ({ totalMs }) => answered(totalMs));
    submitted.catch(nothing);
  }

  #addReplica(id: string, slowness: number): SimulatedReplica {
    const clock = this.#clock;
    const eviction = createEviction(this.#eviction, () => clock.now());
    const how = { clock, eviction, slowness, maxBytes: this.#workload.replicaBytes };
    const replica = new SimulatedReplica(id, how, {
      modelChanged: (changed, key) => this.#dispatcher.modelChanged(changed, key),
      loaded: (changed, model, loadMs) => {
        this.#outcomes.loaded(loadMs);
        this.#dispatcher.modelLoaded(changed, model, loadMs, METADATA);
      },
    });
    this.#dispatcher.addReplica(replica);
    return replica;
  }

  /** Crashes one replica. After a while another one without models takes its place. */
  #crash(): void {
    const replica = this.#replicas.splice(Math.floor(this.#random() * this.#replicas.length), 1)[0];
    if (replica === undefined) return;
    replica.crash((error) => this.#dispatcher.removeReplica(replica, error));
    this.#clock.after(REJOIN_AFTER * SERVICE_MS, () => this.#replicas.push(this.#addReplica(replica.id, 1)));
    this.#clock.after(CRASH_EVERY * SERVICE_MS, () => this.#crash());
  }
}
