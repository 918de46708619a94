import { isDeepStrictEqual } from 'node:util';
import { type Clock, settlesWithin } from '../common/clock.js';
import { InfermuxError } from '../common/errors.js';
import type { Replica } from '../replicas/replica.js';
import {
  type ReplicaMemory,
  type ReplicaPlace,
  ReplicaPool,
  type ReplicaPoolEnvironment,
  type ReplicaPoolObserver,
} from '../replicas/replica-pool.js';
import { AutoscalingLoop } from './autoscaling/autoscaling-loop.js';
import { configChange } from './config/config-change.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import { ControlLoop } from './control/control-loop.js';
import { type Action, reconcile, type Target } from './control/reconcile.js';
import { ReplicaRoster } from './control/replica-roster.js';
import { StartRecord } from './control/start-record.js';
import { type Goal, PursuedGoal, reachedGoal } from './goals.js';
import { HealthChecks } from './health/health-checks.js';
import { RoutingStatsCalls } from './health/routing-stats-calls.js';

/** Where a deployment's requests wait, as it needs it. */
export interface DeploymentQueue {
  addReplica(replica: Replica): void;
  removeReplica(replica: Replica, crash?: InfermuxError): void;
  modelChanged(replica: Replica, modelKey: string): void;
  declareOutage(error: InfermuxError): void;
  /** There is hope again. */
  endOutage(): void;
  configure(options: ResolvedDeploymentOptions): void;
  /** Requests that wait for a replica. */
  readonly queued: number;
  /** Whether no accepted request is without an answer. */
  readonly isIdle: boolean;
  /** Whether requests for the model wait, or came a short while ago. */
  isInUse(modelKey: string): boolean;
  /** Refuses new requests; accepted ones go on. */
  close(refusal: InfermuxError): void;
  /** Refuses new requests and rejects all accepted ones. */
  destroy(error: InfermuxError): void;
  untilIdle(): Promise<void>;
}

export interface DeploymentObserver extends Pick<ReplicaPoolObserver, 'event' | 'stateChanged'> {
  running(replica: Replica): void;
  removed(replica: Replica): void;
  restarting(replica: string, error: InfermuxError, delayMs: number): void;
  outage(error: InfermuxError): void;
  /** There are to be more or fewer replicas, by its options or by the requests there are. */
  scaled(from: number, to: number): void;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

export interface DeploymentEnvironment<Q extends DeploymentQueue = DeploymentQueue> {
  readonly queue: Q;
  readonly memory: ReplicaMemory;
  readonly pool: ReplicaPoolEnvironment;
  readonly weightStore: { readonly directory: string; readonly maxBytes: number };
  readonly observer: DeploymentObserver;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/**
 * `healthy` when all is as it is to be, `updating` on the way there, `unhealthy` when the goal was missed or replicas fail.
 */
export type DeploymentState = 'updating' | 'healthy' | 'unhealthy' | 'deleting';

/** A handler may take so long for another configuration. */
const RECONFIGURE_TIMEOUT_MS = 60_000;

/**
 * One deployment: a loop that performs, step by step, what {@link reconcile} says, until as many replicas of its present
 * options run as are to. It looks again whenever a replica changed its state, and when one may be started again.
 */
export class Deployment<Q extends DeploymentQueue = DeploymentQueue> {
  readonly name: string;
  readonly queue: Q;
  readonly #environment: DeploymentEnvironment<Q>;
  readonly #clock: Clock;
  readonly #pool: ReplicaPool;
  readonly #roster: ReplicaRoster;
  readonly #health: HealthChecks<Replica>;
  readonly #stats: RoutingStatsCalls<Replica>;
  readonly #autoscaling: AutoscalingLoop;
  readonly #loop: ControlLoop<Action>;
  readonly #starts = new StartRecord();
  #options: ResolvedDeploymentOptions;
  #target: Target;
  #goal = new PursuedGoal();
  /** Whether no replica could be started the last time some were. */
  #isOut = false;
  #isDeleting = false;
  #isStopped = false;
  #isWaitingForIdle = false;
  #startWaiters: (() => void)[] = [];

  constructor(name: string, options: ResolvedDeploymentOptions, environment: DeploymentEnvironment<Q>) {
    this.name = name;
    this.queue = environment.queue;
    this.#environment = environment;
    this.#clock = environment.pool.clock;
    this.#options = options;
    this.#target = {
      replicas: options.replicas,
      revision: 1,
      configRevision: 1,
      fraction: options.rollingUpdate.fraction,
    };
    const { observer } = environment;
    this.#pool = new ReplicaPool(name, environment.memory, environment.pool, {
      running: (replica) => this.#running(replica),
      removed: (replica, crash) => this.#removed(replica, crash),
      stateChanged: (replica, state) => observer.stateChanged(replica, state),
      modelChanged: (replica, modelKey) => this.queue.modelChanged(replica, modelKey),
      event: (replica, event) => observer.event(replica, event),
      failed: (place, error, delayMs) => this.#failed(place, error, delayMs),
      changed: () => this.#loop.look(),
    });
    this.#roster = new ReplicaRoster(
      () => this.#pool.places,
      this.#clock,
      // What a handler uses goes through no queue.
      (modelKey) => this.#options.handler !== undefined || this.queue.isInUse(modelKey),
    );
    this.#health = new HealthChecks(() => this.#options.healthCheck, this.#clock, {
      failed: ({ id: replica }, { message: reason }, failuresInRow) =>
        observer.log('warn', { deployment: name, replica, reason, failuresInRow }, 'replica failed a health check'),
      unhealthy: (replica, error) => replica.abandon(error),
    });
    this.#stats = new RoutingStatsCalls(
      () => this.#options.routingStats,
      this.#clock,
      environment.random,
      ({ id: replica }, reason) =>
        observer.log('warn', { deployment: name, replica, reason }, 'recordRoutingStats of the handler failed'),
    );
    const requests = () => this.queue.queued + this.running.reduce((sum, { ongoing }) => sum + ongoing, 0);
    const scaled = { requests, replicas: () => this.#target.replicas, scaleTo: (to: number) => this.#scaleTo(to) };
    this.#autoscaling = new AutoscalingLoop(scaled, this.#clock);
    this.#loop = new ControlLoop(
      { next: () => this.#next(), perform: (action) => this.#perform(action), rest: () => this.#rest() },
      this.#clock,
    );
  }

  get options(): ResolvedDeploymentOptions {
    return this.#options;
  }

  get places(): readonly ReplicaPlace[] {
    return this.#pool.places;
  }

  /** Replicas that take requests. */
  get running(): Replica[] {
    return this.#roster.running;
  }

  get targetReplicas(): number {
    return this.#target.replicas;
  }

  get goal(): Goal {
    return this.#goal.goal;
  }

  get state(): DeploymentState {
    if (this.#isDeleting) return 'deleting';
    if (this.#roster.isReached(this.#target)) return 'healthy';
    const isFailed = ({ replica, failuresInRow }: ReplicaPlace) => failuresInRow > 0 && replica?.state !== 'running';
    return this.#goal.status === 'failed' || this.#pool.places.some(isFailed) ? 'unhealthy' : 'updating';
  }

  /** Whether its requests are answered: a replica runs, or none is to before the first request. */
  get isReady(): boolean {
    if (this.#isDeleting) return false;
    return this.running.length > 0 || (this.#mayScaleToZero && this.#target.replicas === 0 && !this.#isOut);
  }

  /** Whether it is to have no replica, whatever is asked. */
  get isEmpty(): boolean {
    return this.#target.replicas === 0 && !this.#mayScaleToZero;
  }

  /** Why a replica failed, the last time one did. */
  get lastFailure(): InfermuxError | undefined {
    return this.#starts.lastFailure;
  }

  /** Whether the handler brings models of its own; false as long as no replica has run. */
  get hasOwnModels(): boolean {
    return this.running.some(({ hello }) => hello?.handler?.loadsModels === true);
  }

  /** Begins to pursue the target. */
  start(): Goal {
    this.#configureAutoscaling();
    this.#announceScale(0);
    this.#loop.look();
    return this.goal;
  }

  /** @returns the goal that all is as it is to be: a reached one if it is, another try if the last one was missed. */
  pursueAgain(): Goal {
    if (this.#roster.isReached(this.#target)) return reachedGoal();
    if (this.#goal.status !== 'failed') return this.goal;
    this.#pursue();
    this.#loop.look();
    return this.goal;
  }

  /** Resolves when its goal is decided, or may take for ever, since a replica failed. */
  untilDecidedOrFailing(): Promise<void> {
    return this.#goal.decidedOrFailing;
  }

  /**
   * Resolves when each replica has started or failed to, and at least one runs, or none is to.
   *
   * @throws InfermuxError `REPLICA_FAILED` when none does, with the reason.
   */
  async untilStarted(): Promise<void> {
    const isDecided = () =>
      this.#isStopped ||
      this.running.length >= this.#target.replicas ||
      this.#pool.places.every(({ replica, failuresInRow }) => replica?.state === 'running' || failuresInRow > 0);
    while (!isDecided()) await new Promise<void>((resolve) => this.#startWaiters.push(resolve));
    if (this.running.length > 0 || this.#target.replicas === 0) return;
    throw this.#starts.lastFailure ?? new InfermuxError('REPLICA_FAILED', 'no replica could be started');
  }

  /** @returns the goal that these options are in force. */
  update(options: ResolvedDeploymentOptions): Goal {
    const change = configChange(this.#options, options, this.#canReconfigure);
    if (!change.isAny) return this.pursueAgain();
    const { autoscaling, routingStats } = this.#options;
    const before = this.#target;
    const replicas = change.needsScale ? replicasAfter(this.#options, options, before.replicas) : before.replicas;
    this.#options = options;
    this.#target = {
      replicas,
      revision: before.revision + (change.needsRoll ? 1 : 0),
      configRevision: before.configRevision + (change.needsReconfigure ? 1 : 0),
      fraction: options.rollingUpdate.fraction,
    };
    this.#pursue();
    this.queue.configure(options);
    // Otherwise it would have to begin to count anew after each change.
    if (!isDeepStrictEqual(autoscaling, options.autoscaling)) this.#configureAutoscaling();
    if (!isDeepStrictEqual(routingStats, options.routingStats))
      for (const replica of this.running) this.#askForStats(replica);
    this.#announceScale(before.replicas);
    this.#loop.look();
    return this.goal;
  }

  /** A request came; to be told only where {@link targetReplicas} is 0. */
  requestArrived(): void {
    if (this.#mayScaleToZero) this.#scaleTo(1);
  }

  /**
   * Takes no new work, finishes what was accepted and ends all replicas.
   *
   * @param force reject accepted work at once.
   */
  delete({ force }: { force: boolean }): Goal {
    this.#pursue();
    this.#isDeleting = true;
    const refusal = new InfermuxError('FAILED_PRECONDITION', `deployment ${this.name} was deleted`);
    if (force) this.queue.destroy(refusal);
    else this.queue.close(refusal);
    void this.#drain(force);
    return this.goal;
  }

  /**
   * Ends all replicas and starts none; resolves when their threads are gone. Those that do not end in time are given up: their
   * threads are gone as soon as they are in no native call. Idempotent.
   */
  async stop({ hurry }: { hurry: boolean }): Promise<void> {
    this.#halt();
    // One that is being deleted gets there all the same.
    if (!this.#isDeleting) {
      this.#goal.fail(new InfermuxError('ENGINE_CLOSED', `the engine is closing, and with it deployment ${this.name}`));
    }
    const { gracefulShutdownTimeoutMs: graceMs } = this.#options;
    await Promise.all([...this.#pool.places].map((place) => this.#pool.stop(place, { hurry, graceMs })));
    await this.#pool.untilGone();
  }

  /** Resolves when no thread of it is left, those that were given up included. */
  untilGone(): Promise<void> {
    return this.#pool.untilGone();
  }

  get #mayScaleToZero(): boolean {
    return this.#options.autoscaling?.minReplicas === 0;
  }

  get #canReconfigure(): boolean {
    const { running } = this;
    return running.length > 0 && running.every(({ hello }) => hello?.handler?.reconfigures === true);
  }

  /** From now on nothing is started or scaled. */
  #halt(): void {
    this.#isStopped = true;
    this.#loop.stop();
    this.#autoscaling.stop();
    this.#endStartWaits();
  }

  async #drain(force: boolean): Promise<void> {
    const { gracefulShutdownTimeoutMs: graceMs } = this.#options;
    const until = this.#clock.now() + graceMs;
    if (!force) await settlesWithin(this.#clock, this.queue.untilIdle(), graceMs);
    const message = `deployment ${this.name} was deleted, and the request was not answered within ${graceMs} ms`;
    this.queue.destroy(new InfermuxError('FAILED_PRECONDITION', message));
    this.#halt();
    const leftMs = Math.max(0, until - this.#clock.now());
    await Promise.all([...this.#pool.places].map((place) => this.#pool.stop(place, { hurry: true, graceMs: leftMs })));
    this.#goal.settle('reached');
  }

  #pursue(): void {
    this.#goal.settle('superseded');
    this.#goal = new PursuedGoal();
    this.#starts.begin(this.running.some((replica) => this.#isAsWanted(replica)));
    this.#roster.forgetRefusals();
    // What is to be is another than what could not be had: so there is hope.
    this.#isOut = false;
    this.queue.endOutage();
  }

  #next(): Action | undefined {
    // What was accepted is answered before the last replica goes.
    const isNeeded = this.#target.replicas === 0 && !this.queue.isIdle;
    if (isNeeded) this.#lookWhenIdle();
    const target = isNeeded ? { ...this.#target, replicas: 1 } : this.#target;
    const action = reconcile(target, this.#roster.snapshot(this.#target));
    // What goes is told nothing more; what died of it is started again for those who wait.
    return this.#isDeleting && action?.kind === 'reconfigure' ? undefined : action;
  }

  #lookWhenIdle(): void {
    if (this.#isWaitingForIdle) return;
    this.#isWaitingForIdle = true;
    void this.queue.untilIdle().then(() => {
      this.#isWaitingForIdle = false;
      this.#loop.look();
    });
  }

  /** @returns milliseconds until one that failed may be started again. */
  #rest(): number | undefined {
    if (!this.#isDeleting && this.#roster.isReached(this.#target)) this.#goal.settle('reached');
    this.#endStartWaits();
    return this.#roster.nextStartInMs();
  }

  #perform(action: Action): void {
    const { revision, configRevision } = this.#target;
    if (action.kind === 'add') {
      const place = this.#pool.add(
        revision,
        this.#roster.settingsFor(revision, this.#options, this.#environment.weightStore),
      );
      this.#roster.configured(place, configRevision);
      this.#pool.start(place);
      return;
    }
    const place = this.#pool.places.find(({ id }) => id === action.id);
    if (place === undefined) return;
    switch (action.kind) {
      case 'start':
        // With the configuration that it had; it is told of another when it runs.
        this.#pool.start(place);
        break;
      case 'stop':
        void this.#pool.stop(place, { hurry: false, graceMs: this.#options.gracefulShutdownTimeoutMs });
        break;
      case 'reconfigure':
        void this.#reconfigure(place, configRevision);
        break;
    }
  }

  async #reconfigure(place: ReplicaPlace, configRevision: number): Promise<void> {
    const { replica } = place;
    const { userConfig } = this.#options;
    this.#roster.reconfiguring(place, true);
    try {
      const done = replica?.reconfigure(userConfig) ?? Promise.resolve();
      if (!(await settlesWithin(this.#clock, done, RECONFIGURE_TIMEOUT_MS))) {
        const message = `the handler did not take its userConfig within ${RECONFIGURE_TIMEOUT_MS} ms`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      place.settings = { ...place.settings, userConfig };
      this.#roster.configured(place, configRevision);
    } catch (cause) {
      const error = cause as InfermuxError;
      // One that died starts again with the one it had.
      if (replica?.state === 'running') {
        this.#roster.refused(place, configRevision);
        this.#environment.observer.log(
          'warn',
          { deployment: this.name, replica: place.id, reason: error.message },
          'the handler refused its configuration, and goes on with the one it has',
        );
        if (!this.#isDeleting && configRevision === this.#target.configRevision) this.#goal.fail(error);
      }
    } finally {
      this.#roster.reconfiguring(place, false);
      this.#loop.look();
    }
  }

  #endStartWaits(): void {
    for (const resolve of this.#startWaiters.splice(0)) resolve();
  }

  #running(replica: Replica): void {
    if (this.#isAsWanted(replica)) this.#starts.ran();
    this.#isOut = false;
    this.queue.addReplica(replica);
    this.#health.watch(replica);
    this.#askForStats(replica);
    this.#environment.observer.running(replica);
  }

  #askForStats(replica: Replica): void {
    this.#stats.forget(replica);
    if (replica.hello?.handler?.recordsStats === true) this.#stats.watch(replica);
  }

  #removed(replica: Replica, crash: InfermuxError | undefined): void {
    this.#health.forget(replica);
    this.#stats.forget(replica);
    this.queue.removeReplica(replica, crash);
    this.#environment.observer.removed(replica);
  }

  #failed(place: ReplicaPlace, error: InfermuxError, delayMs: number): void {
    if (this.#isStopped) return;
    this.#starts.replicaFailed(error);
    // Otherwise it is decided after a few starts.
    if (this.#starts.hasRun) this.#goal.replicaFailed();
    const { observer } = this.#environment;
    if (place.replica?.hasRun !== true) this.#couldNotStart(place, error);
    observer.restarting(place.id, error, delayMs);
  }

  #couldNotStart(place: ReplicaPlace, error: InfermuxError): void {
    if (place.revision === this.#target.revision) this.#starts.startFailed();
    const failed = this.#starts.missed(this.#target.replicas);
    if (!this.#isDeleting && failed !== undefined) {
      const message = `deployment ${this.name}: ${failed} starts failed, and none succeeded: ${error.message}`;
      this.#goal.fail(new InfermuxError('REPLICA_FAILED', message, { cause: error, retryable: false }));
    }
    const retryAfterMs = this.#roster.outageMs();
    if (retryAfterMs === undefined) return;
    const message = `no replica can be started: ${error.message}`;
    const outage = new InfermuxError('REPLICA_FAILED', message, { cause: error, retryAfterMs });
    this.#isOut = true;
    this.#environment.observer.outage(outage);
    this.queue.declareOutage(outage);
  }

  /** Whether it was started with the present settings. */
  #isAsWanted(replica: Replica): boolean {
    return this.#pool.places.find((place) => place.replica === replica)?.revision === this.#target.revision;
  }

  #configureAutoscaling(): void {
    const { autoscaling } = this.#options;
    if (autoscaling === undefined) this.#autoscaling.stop();
    else this.#autoscaling.start(autoscaling);
  }

  #scaleTo(replicas: number): void {
    const before = this.#target.replicas;
    if (this.#isStopped || this.#isDeleting) return;
    this.#target = { ...this.#target, replicas };
    if (replicas === 0) this.queue.endOutage();
    this.#announceScale(before);
    this.#loop.look();
  }

  #announceScale(before: number): void {
    const { replicas } = this.#target;
    if (replicas !== before) this.#environment.observer.scaled(before, replicas);
  }
}

/** Other bounds leave the number as it is, as far as they allow; a number that is named is taken. */
function replicasAfter(before: ResolvedDeploymentOptions, after: ResolvedDeploymentOptions, current: number): number {
  const { autoscaling, replicas } = after;
  if (autoscaling === undefined) return replicas;
  const isNamed = before.replicas !== replicas && isDeepStrictEqual(before.autoscaling, autoscaling);
  return isNamed ? replicas : Math.min(autoscaling.maxReplicas, Math.max(autoscaling.minReplicas, current));
}
