import type { EvictionName } from '../../dist/contracts/eviction.js';
import type { RequestRouter, RouterName } from '../../dist/contracts/request-router.js';
import { SimulatedDeployment } from './machine/simulated-deployment.js';
import { SimulatedMachine } from './machine/simulated-machine.js';
import type { SimulatedReplica } from './machine/simulated-replica.js';
import { VirtualClock } from './machine/virtual-clock.js';
import { type Outcome, Outcomes } from './outcome.js';
import { type Random, seeded } from './random.js';
import { CRASH_EVERY, QUEUE_LIMIT, REJOIN_AFTER, type Setting, slownessOf } from './setting.js';
import { SERVICE_MS, Workload } from './workload.js';

const nothing = () => undefined;

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
  readonly #outcomes: Outcomes;
  readonly #random: Random;
  readonly #deployment: SimulatedDeployment;
  readonly #replicas: SimulatedReplica[];

  constructor(setting: Setting, router: RouterName | RequestRouter, eviction: EvictionName, seed: number) {
    this.#setting = setting;
    this.#workload = new Workload(setting, seed);
    this.#outcomes = new Outcomes(setting);
    // Not the generator of the requests, which must be the same for all routers.
    this.#random = seeded(seed + 1_000_003);
    const machine = new SimulatedMachine(this.#clock, setting.replicas);
    const options = {
      ...{ router, eviction, maxQueuedRequests: QUEUE_LIMIT * setting.replicas },
      ...{ maxBytes: this.#workload.replicaBytes, threads: 1, wide: 1, express: true },
    };
    this.#deployment = new SimulatedDeployment(machine, this.#random, options, {
      // A request that lost two replicas is lost, which says nothing about the queue.
      failed: ({ code }) => (code === 'QUEUE_FULL' ? this.#outcomes.refused() : this.#outcomes.lost()),
      loaded: (loadMs) => this.#outcomes.loaded(loadMs),
      came: nothing,
    });
    this.#replicas = Array.from({ length: setting.replicas }, (_, index) =>
      this.#deployment.addReplica(`replica-${index}`, slownessOf(setting, index)),
    );
  }

  run(): Outcome {
    const { trouble } = this.#setting;
    // Each model is requested once. The measured requests come after that.
    if (trouble !== 'cold') {
      const { models } = this.#workload;
      for (let first = 0; first < models.length; first += QUEUE_LIMIT) {
        for (const model of models.slice(first, first + QUEUE_LIMIT)) this.#deployment.submit(model, 0, nothing);
        while (!this.#deployment.isIdle) this.#clock.step();
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
      this.#deployment.submit(model, serviceMs, (totalMs) => this.#outcomes.answered(request, totalMs));
      if (!this.#outcomes.isAllArrived) this.#scheduleArrival();
    });
  }

  /** Acts as one caller, which sends one request after the other. */
  #call(): void {
    if (this.#outcomes.isAllArrived) return;
    const { model, serviceMs } = this.#workload.next();
    const request = this.#outcomes.arrived();
    this.#deployment.submit(model, serviceMs, (totalMs) => {
      this.#outcomes.answered(request, totalMs);
      this.#clock.defer(() => this.#call());
    });
  }

  /** Crashes one replica. After a while another one without models takes its place. */
  #crash(): void {
    const replica = this.#replicas.splice(Math.floor(this.#random() * this.#replicas.length), 1)[0];
    if (replica === undefined) return;
    this.#deployment.crash(replica);
    this.#clock.after(REJOIN_AFTER * SERVICE_MS, () => this.#replicas.push(this.#deployment.addReplica(replica.id)));
    this.#clock.after(CRASH_EVERY * SERVICE_MS, () => this.#crash());
  }
}
