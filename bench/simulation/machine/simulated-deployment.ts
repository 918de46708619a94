import type { InfermuxError } from '../../../dist/common/errors.js';
import type { EvictionName } from '../../../dist/contracts/eviction.js';
import type { RequestRouter, RouterName } from '../../../dist/contracts/request-router.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import type { DispatcherObserver } from '../../../dist/routing/dispatcher-options.js';
import { createEviction } from '../../../dist/worker/sessions/eviction-policies.js';
import type { Random } from '../random.js';
import type { SimulatedMachine } from './simulated-machine.js';
import { feedsOf, metadataOf, type SimulatedModel } from './simulated-model.js';
import { SimulatedReplica } from './simulated-replica.js';

const nothing = () => undefined;
/** The parts of a request that are the same for all: everything except the model and the time. */
const TERMS = {
  ...{ payload: undefined, outputs: undefined, checked: true, priority: 0, deadline: undefined, signal: undefined },
  ...{
    takeOver: undefined,
    apartBytes: 0,
    releaseFeeds: undefined,
    shardKey: undefined,
    labels: undefined,
    hints: undefined,
    isShadow: false,
    trace: undefined,
  },
};
/** Milliseconds until a new thread takes work. */
const EXPRESS_START_MS = 50;

export interface SimulatedDeploymentOptions {
  readonly router: RouterName | RequestRouter;
  readonly eviction: EvictionName;
  readonly maxQueuedRequests: number;
  /** Bytes of the sessions of each replica. */
  readonly maxBytes: number;
  /** Threads of its sessions, except for wide ones. */
  readonly threads: number;
  /** Cores that a wide run can use; 1 for none. */
  readonly wide: number;
  /** Whether it gets an express replica when it needs one. */
  readonly express: boolean;
}

/** What comes and goes. */
export type Comer = 'narrow' | 'wide' | 'express';

export interface SimulatedDeploymentObserver {
  failed(error: InfermuxError): void;
  loaded(loadMs: number): void;
  /** A session was loaded, or an express replica started. @param place its name, the same each time that it comes. */
  came(what: Comer, place: string, loadMs: number): void;
}

/** The engine's own dispatcher with its router and cache policy over simulated replicas. */
export class SimulatedDeployment {
  readonly #machine: SimulatedMachine;
  readonly #options: SimulatedDeploymentOptions;
  readonly #observer: SimulatedDeploymentObserver;
  readonly #dispatcher: Dispatcher<SimulatedReplica>;
  #express: SimulatedReplica | undefined;
  #isExpressNeeded = false;
  #cancelStart: () => void = nothing;

  constructor(
    machine: SimulatedMachine,
    random: Random,
    options: SimulatedDeploymentOptions,
    observer: SimulatedDeploymentObserver,
  ) {
    this.#machine = machine;
    this.#options = options;
    this.#observer = observer;
    const { router, maxQueuedRequests, wide } = options;
    const dispatcherObserver: DispatcherObserver = {
      ...{
        busy: nothing,
        idle: nothing,
        submitted: nothing,
        accepted: nothing,
        given: nothing,
        ended: nothing,
        waited: nothing,
      },
      ...{ answered: nothing, called: nothing, batchingSwitchedOff: nothing },
      sought: () => undefined,
      unsought: () => undefined,
      insteadOf: () => undefined,
      expressNeeded: (isNeeded) => this.#expressNeeded(isNeeded),
      failed: (_, error) => observer.failed(error),
      barred: () => undefined,
      routerFailed: (_fault, error) => {
        throw error;
      },
    };
    const dispatcherOptions = { maxOngoingRequests: -1, maxQueuedRequests, router, cores: wide };
    this.#dispatcher = new Dispatcher<SimulatedReplica>(
      { ...dispatcherOptions, batching: 'auto' },
      random,
      machine.clock,
      dispatcherObserver,
    );
  }

  get isIdle(): boolean {
    return this.#dispatcher.isIdle;
  }

  /** @param serviceMs of a run with one thread. */
  submit(model: SimulatedModel, serviceMs: number, answered: (totalMs: number) => void): void {
    const feeds = feedsOf(serviceMs);
    const submitted = this.#dispatcher.submit({ model, feeds, ...TERMS }, ({ totalMs }) => answered(totalMs));
    submitted.catch(nothing);
  }

  addReplica(id: string, slowness = 1): SimulatedReplica {
    const replica = this.#replica(id, slowness, false);
    this.#dispatcher.addReplica(replica);
    return replica;
  }

  crash(replica: SimulatedReplica): void {
    replica.crash((error) => this.#dispatcher.removeReplica(replica, error));
  }

  #replica(id: string, slowness: number, isExpress: boolean): SimulatedReplica {
    const { clock } = this.#machine;
    const { maxBytes, threads } = this.#options;
    const eviction = createEviction(this.#options.eviction, () => clock.now());
    const options = { eviction, maxBytes, slowness, threads, isExpress };
    return new SimulatedReplica(id, this.#machine, options, {
      modelChanged: (changed, key) => this.#dispatcher.modelChanged(changed, key),
      loaded: (changed, model, loadMs) => {
        const isWide = model.threads !== undefined;
        this.#observer.loaded(loadMs);
        this.#observer.came(isWide ? 'wide' : 'narrow', `${model.key} in ${changed.id}`, loadMs);
        // A wide session says nothing new of the model.
        if (!isWide) this.#dispatcher.modelLoaded(changed, model, loadMs, metadataOf(model));
      },
    });
  }

  #expressNeeded(isNeeded: boolean): void {
    if (!this.#options.express || isNeeded === this.#isExpressNeeded) return;
    this.#isExpressNeeded = isNeeded;
    const { clock } = this.#machine;
    if (isNeeded) this.#cancelStart = clock.after(EXPRESS_START_MS, () => this.#startExpress());
    else {
      this.#cancelStart();
      const express = this.#express;
      this.#express = undefined;
      // What it was given it still answers.
      if (express !== undefined) clock.defer(() => this.#dispatcher.removeReplica(express));
    }
  }

  #startExpress(): void {
    const express = this.#replica('express', 1, true);
    this.#express = express;
    this.#observer.came('express', 'express', EXPRESS_START_MS);
    this.#dispatcher.addReplica(express);
  }
}
