import type { Clock } from '../../common/clock.js';
import { InfermuxError } from '../../common/errors.js';
import type { Replica } from '../../replicas/replica.js';
import {
  type ReplicaPlace,
  ReplicaPool,
  type ReplicaPoolObserver,
  type ReplicaSettings,
} from '../../replicas/replica-pool.js';
import type { ResolvedDeploymentOptions } from '../config/deployment-options.js';
import type { DeploymentEnvironment, DeploymentObserver, DeploymentQueue } from '../deployment-environment.js';
import { ControlLoop } from './control-loop.js';
import { ExpressReplica } from './express-replica.js';
import { HandlerConfigs } from './handler-configs.js';
import { type Action, reconcile } from './reconcile.js';
import { ReplicaRoster } from './replica-roster.js';
import type { Target } from './target.js';

export interface ControllerEnvironment extends Pick<DeploymentEnvironment, 'memory' | 'pool' | 'weightStore'> {
  readonly queue: Pick<DeploymentQueue, 'isIdle' | 'isInUse' | 'untilIdle'>;
  /** The options in force. */
  readonly options: () => ResolvedDeploymentOptions;
}

/** Is told of what happens to the replicas, the express replica included. `failed` is not called after {@link ReplicaController.halt}. */
export interface ControllerObserver
  extends Omit<ReplicaPoolObserver, 'changed'>,
    Pick<DeploymentObserver, 'handlerUsed' | 'log'> {
  /** A running handler refused the configuration of the target. */
  configRefused(error: InfermuxError): void;
  /** There is no step to take now. */
  resting(): void;
}

/**
 * Makes the replicas of a deployment match its target. Its loop performs the actions of {@link reconcile} one by one.
 * It looks again whenever a replica changed its state, and when a failed replica may be started again.
 */
export class ReplicaController {
  readonly #deployment: string;
  readonly #environment: ControllerEnvironment;
  readonly #observer: ControllerObserver;
  readonly #clock: Clock;
  readonly #pool: ReplicaPool;
  readonly #configs: HandlerConfigs;
  readonly #roster: ReplicaRoster;
  readonly #express: ExpressReplica;
  readonly #loop: ControlLoop<Action>;
  #target: Target;
  #isHalted = false;
  #mayReconfigure = true;
  #isWaitingForIdle = false;
  #startWaiters: (() => void)[] = [];

  /** @param deployment the deployment's name; replicas are named after it. */
  constructor(deployment: string, target: Target, environment: ControllerEnvironment, observer: ControllerObserver) {
    const { memory, options, pool, queue } = environment;
    this.#deployment = deployment;
    this.#environment = environment;
    this.#observer = observer;
    this.#clock = pool.clock;
    this.#target = target;
    const told: ControllerObserver = {
      ...observer,
      failed: (place, error, delayMs) => {
        if (!this.#isHalted) observer.failed(place, error, delayMs);
      },
    };
    this.#pool = new ReplicaPool(deployment, memory, pool, { ...told, changed: () => this.look() });
    this.#configs = new HandlerConfigs(this.#clock, {
      refused: (place, error, configRevision) => this.#configRefused(place, error, configRevision),
      ended: () => this.look(),
    });
    this.#roster = new ReplicaRoster(
      () => this.#pool.places,
      this.#configs,
      this.#clock,
      // A handler uses models without a request in the queue.
      (modelKey) => options().handler !== undefined || queue.isInUse(modelKey),
    );
    this.#loop = new ControlLoop(
      { next: () => this.#next(), perform: (action) => this.#perform(action), rest: () => this.#rest() },
      this.#clock,
    );
    this.#express = new ExpressReplica(
      deployment,
      {
        ...{ memory, pool, options, target: () => this.#target },
        running: () => this.running.length,
        settings: () => this.#settings(),
      },
      told,
    );
  }

  /** The places of the replicas that the target counts. */
  get places(): readonly ReplicaPlace[] {
    return this.#pool.places;
  }

  /** The express replica, which no target counts. */
  get express(): Pick<ExpressReplica, 'need' | 'place' | 'running'> {
    return this.#express;
  }

  /** Number of ongoing requests. */
  get ongoing(): number {
    return this.running.reduce((sum, { ongoing }) => sum + ongoing, this.#express.running?.ongoing ?? 0);
  }

  /** Replicas that take requests, without the express replica. */
  get running(): Replica[] {
    return this.#roster.running;
  }

  get target(): Target {
    return this.#target;
  }

  /** Whether the replicas match the target, and no other replica is left. */
  get isReached(): boolean {
    return this.#roster.isReached(this.#target);
  }

  get isHalted(): boolean {
    return this.#isHalted;
  }

  /** Whether every running handler takes another configuration; false when no replica runs. */
  get canReconfigure(): boolean {
    const { running } = this;
    return running.length > 0 && running.every(({ hello }) => hello?.handler?.reconfigures === true);
  }

  /** Whether the replica was started with the settings of the target. */
  isCurrent(replica: Replica): boolean {
    return this.#pool.places.find((place) => place.replica === replica)?.revision === this.#target.revision;
  }

  /** Sets the target. The next {@link look} acts on it. */
  aim(target: Target): void {
    this.#target = target;
  }

  look(): void {
    this.#loop.look();
    this.#express.look();
  }

  /** Handlers that refused their configuration are asked again. */
  forgetRefusals(): void {
    this.#configs.forgetRefusals(this.#pool.places);
  }

  /** Gives no handler another configuration from now on. Replicas are still restarted, for accepted requests. */
  stopReconfiguring(): void {
    this.#mayReconfigure = false;
  }

  /**
   * @returns the error for requests, when no replica runs after several failures in a row; undefined otherwise.
   */
  outage(cause: InfermuxError): InfermuxError | undefined {
    const retryAfterMs = this.#roster.outageMs();
    if (retryAfterMs === undefined) return undefined;
    return new InfermuxError('REPLICA_FAILED', `no replica can be started: ${cause.message}`, { cause, retryAfterMs });
  }

  /** Resolves when each replica has started or failed to, or {@link halt} was called. */
  async untilStarted(): Promise<void> {
    const isDecided = () =>
      this.#isHalted ||
      this.running.length >= this.#target.replicas ||
      this.#pool.places.every(({ replica, failuresInRow }) => replica?.state === 'running' || failuresInRow > 0);
    while (!isDecided()) await new Promise<void>((resolve) => this.#startWaiters.push(resolve));
  }

  /** Takes no step from now on: nothing is started. */
  halt(): void {
    this.#isHalted = true;
    this.#loop.stop();
    this.#express.halt();
    this.#endStartWaits();
  }

  /** Stops all replicas, as {@link ReplicaPool.stop} does. Call {@link halt} before. */
  async stopAll(how: { hurry: boolean; graceMs: number }): Promise<void> {
    const stops = [...this.#pool.places].map((place) => this.#pool.stop(place, how));
    await Promise.all([...stops, this.#express.stop(how)]);
  }

  /** Resolves when no thread is left, those of abandoned replicas included. */
  async untilGone(): Promise<void> {
    await Promise.all([this.#pool.untilGone(), this.#express.untilGone()]);
  }

  #next(): Action | undefined {
    // Accepted requests are answered before the last replica stops.
    const isNeeded = this.#target.replicas === 0 && !this.#environment.queue.isIdle;
    if (isNeeded) this.#lookWhenIdle();
    const target = isNeeded ? { ...this.#target, replicas: 1 } : this.#target;
    const action = reconcile(target, this.#roster.snapshot(this.#target));
    return action?.kind === 'reconfigure' && !this.#mayReconfigure ? undefined : action;
  }

  #lookWhenIdle(): void {
    if (this.#isWaitingForIdle) return;
    this.#isWaitingForIdle = true;
    void this.#environment.queue.untilIdle().then(() => {
      this.#isWaitingForIdle = false;
      this.look();
    });
  }

  /** @returns milliseconds until a failed replica may be started again. */
  #rest(): number | undefined {
    this.#observer.resting();
    this.#endStartWaits();
    return this.#roster.nextStartInMs();
  }

  #perform(action: Action): void {
    const options = this.#environment.options();
    const { revision, configRevision } = this.#target;
    if (action.kind === 'add') {
      if (options.handler !== undefined) this.#observer.handlerUsed(options.handler);
      const place = this.#pool.add(revision, this.#settings());
      this.#configs.taken(place, configRevision);
      this.#pool.start(place);
      return;
    }
    const place = this.#pool.places.find(({ id }) => id === action.id);
    if (place === undefined) return;
    switch (action.kind) {
      case 'start':
        // It starts with the configuration that it had, and is given the present one when it runs.
        this.#pool.start(place);
        break;
      case 'stop':
        void this.#pool.stop(place, { hurry: false, graceMs: options.gracefulShutdownTimeoutMs });
        break;
      case 'reconfigure':
        void this.#configs.reconfigure(place, options, configRevision);
        break;
    }
  }

  /** The settings of one more replica. */
  #settings(): ReplicaSettings {
    const { options, weightStore } = this.#environment;
    return this.#roster.settingsFor(this.#target.revision, options(), weightStore);
  }

  #configRefused({ id: replica }: ReplicaPlace, error: InfermuxError, configRevision: number): void {
    this.#observer.log(
      'warn',
      { deployment: this.#deployment, replica, reason: error.message },
      'the handler refused its configuration, and keeps the one it has',
    );
    if (this.#mayReconfigure && configRevision === this.#target.configRevision) this.#observer.configRefused(error);
  }

  #endStartWaits(): void {
    for (const resolve of this.#startWaiters.splice(0)) resolve();
  }
}
