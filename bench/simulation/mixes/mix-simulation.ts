import { DEFAULT_ROUTER } from '../../../dist/contracts/request-router.js';
import { SimulatedDeployment } from '../machine/simulated-deployment.js';
import { SimulatedMachine } from '../machine/simulated-machine.js';
import type { SimulatedModel } from '../machine/simulated-model.js';
import { VirtualClock } from '../machine/virtual-clock.js';
import { exponential, type Random, seeded } from '../random.js';
import { type Mix, ofPhase, type Stream } from './mix.js';
import { type MixOutcome, MixOutcomes } from './mix-outcome.js';

/**
 * What serves a mix. The default has a narrow session in each replica, a wide one for lone requests, and an express
 * replica when it is needed. The others are what a user can fix by hand: narrow sessions only; one replica with all
 * threads; narrow sessions, and a deployment with one more replica for short models.
 */
export const SERVERS = ['default', 'narrow', 'one wide replica', 'by hand'] as const;

export type Server = (typeof SERVERS)[number];

const SESSION_BYTES = 1_000_000;
const QUEUE_LIMIT = 10_000;
/** Run times differ by so much to both sides. */
const NOISE = 0.05;

export function simulateMix(mix: Mix, server: Server, seed: number): MixOutcome {
  return new MixSimulation(mix, server, seed).run();
}

class MixSimulation {
  readonly #mix: Mix;
  readonly #clock = new VirtualClock();
  readonly #machine: SimulatedMachine;
  readonly #outcomes: MixOutcomes;
  readonly #random: Random;
  readonly #deployment: SimulatedDeployment;
  /** The one for short models, if they have one of their own. */
  readonly #own: SimulatedDeployment;

  constructor(mix: Mix, server: Server, seed: number) {
    this.#mix = mix;
    this.#machine = new SimulatedMachine(this.#clock, mix.cores);
    this.#outcomes = new MixOutcomes(mix);
    this.#random = seeded(seed + 1_000_003);
    const isWide = server === 'one wide replica';
    this.#deployment = this.#deploy(server, isWide ? 1 : mix.cores, isWide ? mix.cores : 1);
    this.#own = server === 'by hand' ? this.#deploy(server, 1, 1) : this.#deployment;
    mix.streams.forEach((stream, index) => {
      this.#start(stream, index, seeded(1_000 * seed + index));
    });
  }

  run(): MixOutcome {
    this.#clock.after(this.#outcomes.endsAt, () => undefined);
    while (this.#clock.now() < this.#outcomes.endsAt) this.#clock.step();
    return this.#outcomes.result();
  }

  /** Whatever the number of replicas, they have the same bytes together. */
  #deploy(server: Server, replicas: number, threads: number): SimulatedDeployment {
    const { cores, sessions } = this.#mix;
    const isDefault = server === 'default';
    const deployment = new SimulatedDeployment(
      this.#machine,
      this.#random,
      {
        ...{ router: DEFAULT_ROUTER, eviction: 'lru', maxQueuedRequests: QUEUE_LIMIT, threads },
        ...{ maxBytes: (SESSION_BYTES * sessions * (threads === 1 ? cores : replicas * cores)) / cores },
        ...{ wide: isDefault ? cores : 1, express: isDefault },
      },
      {
        failed: () => this.#outcomes.failed(),
        loaded: () => undefined,
        came: (what, place) => this.#outcomes.came(what, place, this.#clock.now()),
      },
    );
    for (let index = 0; index < replicas; index += 1) deployment.addReplica(`replica-${index}`);
    return deployment;
  }

  #start(stream: Stream, index: number, random: Random): void {
    const models = modelsOf(stream);
    const { perSecond = 0, burst, callers = 0, pauseMs = 0 } = stream;
    const deployment = stream.isShort === true ? this.#own : this.#deployment;
    const phase = () => this.#outcomes.phaseAt(this.#clock.now());
    const send = (model: SimulatedModel, answered: () => void) => {
      const request = this.#outcomes.arrived(index, this.#clock.now());
      const runMs = ofPhase(stream.runMs, phase()) * (1 + NOISE * (2 * random() - 1));
      deployment.submit(model, runMs, (totalMs) => {
        this.#outcomes.answered(request, totalMs);
        answered();
      });
    };
    const draw = () => drawModel(models, random);
    const nothing = () => undefined;
    if (perSecond > 0) {
      this.#repeat(
        () => (1_000 * exponential(random)) / perSecond,
        () => send(draw(), nothing),
      );
    }
    if (burst !== undefined) {
      let next = 0;
      this.#repeat(
        () => burst.everyMs,
        () => {
          const model = models[next % models.length] as SimulatedModel;
          next += 1;
          for (let request = 0; request < burst.requests; request += 1) send(model, nothing);
        },
      );
    }
    // Before each phase, callers come. Those that are too many leave when they have their answer.
    let present = 0;
    const call = (): void => {
      if (present > ofPhase(callers, phase())) present -= 1;
      else send(draw(), () => (pauseMs > 0 ? this.#clock.after(pauseMs, call) : this.#clock.defer(call)));
    };
    let begin = 0;
    for (const { ms } of this.#mix.phases) {
      this.#clock.after(begin, () => {
        while (present < ofPhase(callers, phase())) {
          present += 1;
          call();
        }
      });
      begin += ms;
    }
  }

  #repeat(gapMs: () => number, callback: () => void): void {
    this.#clock.after(gapMs(), () => {
      callback();
      this.#repeat(gapMs, callback);
    });
  }
}

function modelsOf({ name, models = 1, loadMs, parallel = 0, fixed }: Stream): SimulatedModel[] {
  return Array.from({ length: models }, (_, index) => {
    const id = models === 1 ? name : `${name}-${index}`;
    const model = { id, key: id, path: '', bytes: SESSION_BYTES, loadMs, parallel };
    return fixed === undefined ? model : { ...model, fixed };
  });
}

function drawModel(models: readonly SimulatedModel[], random: Random): SimulatedModel {
  const total = models.reduce((sum, _, rank) => sum + 1 / (rank + 1), 0);
  let left = random() * total;
  const index = models.findIndex((_, rank) => {
    left -= 1 / (rank + 1);
    return left < 0;
  });
  return models[Math.max(0, index)] as SimulatedModel;
}
