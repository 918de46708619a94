import { fileURLToPath } from 'node:url';
import { machineCapacity } from '../../deployments/capacity.js';
import type { ResolvedDeploymentOptions } from '../../deployments/config/deployment-options.js';
import { withRouter } from '../../deployments/config/router-module.js';
import { Deployment } from '../../deployments/deployment.js';
import type { DeploymentObserver } from '../../deployments/deployment-environment.js';
import type { ManagedModels } from '../../models/managed-models.js';
import type { Replica } from '../../replicas/replica.js';
import type { ReplicaMemory } from '../../replicas/replica-memory.js';
import type { ReplicaPoolEnvironment } from '../../replicas/replica-pool.js';
import { Dispatcher } from '../../routing/dispatcher.js';
import type { DispatcherObserver } from '../../routing/dispatcher-options.js';
import type { EngineDeployment, Targets } from '../requests/targets.js';
import type { CapacityCheck } from './capacity-check.js';
import { type DispatcherObserverEnvironment, observeDispatcher } from './dispatcher-observer.js';
import type { OtherWritersLog } from './other-writers-log.js';
import type { ReplicaEvents } from './replica-events.js';
import { SoughtModels } from './sought-models.js';

export interface DeploymentFactoryEnvironment extends DispatcherObserverEnvironment {
  readonly others: OtherWritersLog;
  readonly memory: ReplicaMemory;
  readonly pool: ReplicaPoolEnvironment;
  readonly weightStore: { readonly directory: string; readonly maxBytes: number };
  readonly loadRetries: number;
  readonly capacity: CapacityCheck;
  /** All deployments of the engine. */
  deployments(): readonly EngineDeployment[];
  managed(): ManagedModels;
  replicaEvents(): ReplicaEvents;
  targets(): Targets;
  /** A replica takes requests from now on. */
  running(): void;
}

/** Makes deployments whose requests wait in a dispatcher, and passes on their events to models, metrics and log. */
export class DeploymentFactory {
  readonly #environment: DeploymentFactoryEnvironment;

  constructor(environment: DeploymentFactoryEnvironment) {
    this.#environment = environment;
  }

  create(name: string, options: ResolvedDeploymentOptions, goalId?: string): EngineDeployment {
    const { memory, pool, weightStore, capacity } = this.#environment;
    const sought = new SoughtModels(
      () => this.#environment.managed(),
      () => queue.sought,
      (error) => this.#environment.targets().explained(error),
      () => {
        if (deployment.targetReplicas === 0) deployment.requestArrived();
      },
    );
    const observer: DispatcherObserver = {
      ...observeDispatcher(name, this.#environment),
      expressNeeded: (isNeeded) => deployment.express.need(isNeeded),
      sought: (model) => sought.sought(model),
      unsought: (model) => sought.unsought(model),
      insteadOf: (model) => sought.insteadOf(model),
    };
    const queue = new Dispatcher<Replica>(
      { ...withRouter(options), cores: machineCapacity().cores, loadRetries: this.#environment.loadRetries },
      Math.random,
      pool.clock,
      observer,
    );
    const deployment: EngineDeployment = new Deployment(name, options, {
      ...{ queue, memory, pool, weightStore, random: Math.random },
      observer: this.#observe(name, queue),
      goalId,
      fitting: (...scale) => capacity.fitting(name, ...scale),
      refusalOf: (...scale) => capacity.refusalOf(name, ...scale),
    });
    return deployment;
  }

  #observe(deployment: string, queue: Dispatcher<Replica>): DeploymentObserver {
    const { log, metrics, managed, events, replicaEvents, others } = this.#environment;
    return {
      running: (replica) => {
        // An express replica gets models by requests alone.
        if (!replica.isExpress) managed().replicaRunning(replica);
        this.#environment.running();
      },
      removed: (replica, crash) => {
        managed().replicaLeft(replica.id);
        if (crash !== undefined && replica.loadUnderWay !== undefined)
          replicaEvents().loadLost(queue, replica, replica.loadUnderWay);
      },
      event: (replica, event) => replicaEvents().handle(queue, replica, event),
      handlerUsed: (handler) => void others.look('a handler', fileURLToPath(handler)),
      stateChanged: ({ id, hello }, state) => {
        log.write('info', { replica: id, state, ...hello }, 'replica changed state');
        // It starts before anybody is told.
        if (state !== 'starting') events.emit('replicaState', () => ({ replica: id, deployment, state }));
      },
      restarting: (replica, error, delayMs) => {
        metrics.replicaRestarted(replica);
        log.write('warn', { replica, err: error, delayMs }, 'replica failed and is restarted');
        events.emit('replicaRestarting', () => ({ replica, deployment, reason: error.message, delayMs }));
      },
      outage: (error) => {
        log.write('error', { deployment, err: error }, 'no replica can be started');
        events.emit('outage', () => ({ deployment, reason: error.message }));
      },
      scaled: (from, to) => this.#scaled(deployment, from, to),
      log: (level, fields, message) => log.write(level, fields, message),
    };
  }

  #scaled(name: string, from: number, to: number): void {
    const { log, events, deployments, capacity } = this.#environment;
    events.emit('scaled', () => ({ deployment: name, from, to }));
    if (from > 0) log.write('info', { deployment: name, from, to }, 'deployment is scaled');
    const deployment = deployments().find((each) => each.name === name);
    if (deployment !== undefined) capacity.scaled(name, deployment.options, from, to);
  }
}
