import { isDeepStrictEqual } from 'node:util';
import { type Clock, within } from '../clock.js';
import { InfermuxError } from '../errors.js';
import type { ReplicaEvent } from '../protocol/messages.js';
import type { Replica } from '../replicas/replica.js';
import {
  type ReplicaMemory,
  type ReplicaPlace,
  ReplicaPool,
  type ReplicaPoolEnvironment,
} from '../replicas/replica-pool.js';
import type { ReplicaState } from '../replicas/replica-state.js';
import { AutoscalingLoop } from './autoscaling-loop.js';
import { configChange } from './config-change.js';
import type { ResolvedDeploymentOptions } from './deployment-options.js';
import { type Goal, PursuedGoal, reachedGoal } from './goals.js';
import { HealthChecks } from './health-checks.js';
import { type Action, reconcile, type Target } from './reconcile.js';
import { ReplicaRoster } from './replica-roster.js';

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

export interface DeploymentObserver {
  running(replica: Replica): void;
  left(replica: Replica): void;
  event(replica: Replica, event: ReplicaEvent): void;
  stateChanged(replica: Replica, state: ReplicaState): void;
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
}

/**
 * `healthy` when all is as it is to be, `updating` on the way there, `unhealthy` when the goal was missed or replicas fail.
 */
export type DeploymentState = 'updating' | 'healthy' | 'unhealthy' | 'deleting';

/** A handler may take so long for another configuration. */
const RECONFIGURE_TIMEOUT_MS = 60_000;
/** A goal that so many starts in a row missed is given up, though the starts go on. */
const MOST_FAILED_STARTS = 20;
const FAILED_STARTS_PER_REPLICA = 3;

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
  readonly #autoscaling: AutoscalingLoop;
  #options: ResolvedDeploymentOptions;
  #target: Target;
  #goal = new PursuedGoal();
  /** Since the present revision was asked for. */
  #failedStarts = 0;
  #hasEverRun = false;
  /** Whether no replica could be started the last time some were. */
  #isOut = false;
  #lastFailure: InfermuxError | undefined;
  #cancelLook: (() => void) | undefined;
  #isLooking = false;
  #mustLookAgain = false;
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
      left: (replica, crash) => this.#left(replica, crash),
      stateChanged: (replica, state) => observer.stateChanged(replica, state),
      modelChanged: (replica, modelKey) => this.queue.modelChanged(replica, modelKey),
      event: (replica, event) => observer.event(replica, event),
      failed: (place, error, delayMs) => this.#failed(place, error, delayMs),
      changed: () => this.#look(),
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
    const requests = () => this.queue.queued + this.running.reduce((sum, { ongoing }) => sum + ongoing, 0);
    const scaled = { requests, replicas: () => this.#target.replicas, scaleTo: (to: number) => this.#scaleTo(to) };
    this.#autoscaling = new AutoscalingLoop(scaled, this.#clock);
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
    return this.#lastFailure;
  }

  /** Whether the handler brings models of its own; false as long as no replica has run. */
  get hasOwnModels(): boolean {
    return this.running.some(({ hello }) => hello?.handler?.loadsModels === true);
  }

  /** Begins to pursue the target. */
  start(): Goal {
    this.#configureAutoscaling();
    this.#announceScale(0);
    this.#look();
    return this.goal;
  }

  /** @returns the goal that all is as it is to be: a reached one if it is, another try if the last one was missed. */
  pursueAgain(): Goal {
    if (this.#roster.isReached(this.#target)) return reachedGoal();
    if (this.#goal.status !== 'failed') return this.goal;
    this.#pursue();
    this.#roster.forgetRefusals();
    this.#look();
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
    throw this.#lastFailure ?? new InfermuxError('REPLICA_FAILED', 'no replica could be started');
  }

  /** @returns the goal that these options are in force. */
  update(options: ResolvedDeploymentOptions): Goal {
    const change = configChange(this.#options, options, this.#canReconfigure);
    if (!change.isAny) return this.pursueAgain();
    const { autoscaling } = this.#options;
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
    if (change.needsReconfigure)
      for (const place of this.#pool.places) place.settings = { ...place.settings, userConfig: options.userConfig };
    // Otherwise it would have to begin to count anew after each change.
    if (!isDeepStrictEqual(autoscaling, options.autoscaling)) this.#configureAutoscaling();
    this.#announceScale(before.replicas);
    this.#look();
    return this.goal;
  }

  /** A request was accepted; to be told only where {@link targetReplicas} is 0. */
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

  /** Ends all replicas and starts none; resolves when their threads are gone. Idempotent. */
  async stop(how: { hurry: boolean }): Promise<void> {
    this.#halt();
    // One that is being deleted gets there all the same.
    if (!this.#isDeleting) {
      this.#goal.fail(new InfermuxError('ENGINE_CLOSED', `the engine is closing, and with it deployment ${this.name}`));
    }
    await Promise.all([...this.#pool.places].map((place) => this.#pool.stop(place, how)));
    await this.#pool.untilGone();
  }

  /** Gives up all replicas that are still there. */
  abandon(reason: Error): void {
    for (const { replica } of this.#pool.places) replica?.abandon(reason);
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
    this.#cancelLook?.();
    this.#autoscaling.stop();
    this.#endStartWaits();
  }

  async #drain(force: boolean): Promise<void> {
    const { gracefulShutdownTimeoutMs: graceMs } = this.#options;
    const until = this.#clock.now() + graceMs;
    if (!force) await within(this.#clock, this.queue.untilIdle(), graceMs);
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
    this.#failedStarts = 0;
    this.#hasEverRun = false;
    this.#endOutage();
  }

  /** What is to be is another than what could not be had: so there is hope. */
  #endOutage(): void {
    this.#isOut = false;
    this.queue.endOutage();
  }

  /** Takes steps until there is none to take now; asks again when the next one is due. */
  #look(): void {
    if (this.#isLooking) {
      this.#mustLookAgain = true;
      return;
    }
    this.#isLooking = true;
    try {
      do {
        this.#mustLookAgain = false;
        for (let action = this.#next(); action !== undefined; action = this.#next()) this.#perform(action);
      } while (this.#mustLookAgain);
    } finally {
      this.#isLooking = false;
    }
    this.#settle();
    this.#lookLater();
    this.#endStartWaits();
  }

  #next(): Action | undefined {
    if (this.#isStopped) return undefined;
    return reconcile(this.#presentTarget, this.#roster.snapshot(this.#target));
  }

  /** What was accepted is answered before the last replica goes. */
  get #presentTarget(): Target {
    if (this.#target.replicas > 0 || this.queue.isIdle) return this.#target;
    if (!this.#isWaitingForIdle) {
      this.#isWaitingForIdle = true;
      void this.queue.untilIdle().then(() => {
        this.#isWaitingForIdle = false;
        this.#look();
      });
    }
    return { ...this.#target, replicas: 1 };
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
        // It starts with the configuration as it is now.
        this.#roster.configured(place, configRevision);
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
      if (!(await within(this.#clock, done, RECONFIGURE_TIMEOUT_MS))) {
        const message = `the handler did not take its userConfig within ${RECONFIGURE_TIMEOUT_MS} ms`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      this.#roster.configured(place, configRevision);
    } catch (cause) {
      const error = cause as InfermuxError;
      // One that died starts again with it.
      if (replica?.state === 'running') {
        this.#roster.refused(place, configRevision);
        this.#environment.observer.log(
          'warn',
          { deployment: this.name, replica: place.id, reason: error.message },
          'the handler refused its configuration, and goes on with the one it has',
        );
        if (configRevision === this.#target.configRevision) this.#goal.fail(error);
      }
    } finally {
      this.#roster.reconfiguring(place, false);
      this.#look();
    }
  }

  #settle(): void {
    if (this.#isDeleting || this.#isStopped) return;
    if (this.#roster.isReached(this.#target)) this.#goal.settle('reached');
  }

  /** One that failed may be started again some time later. */
  #lookLater(): void {
    this.#cancelLook?.();
    this.#cancelLook = undefined;
    const inMs = this.#isStopped ? undefined : this.#roster.nextStartInMs();
    if (inMs === undefined) return;
    this.#cancelLook = this.#clock.schedule(() => {
      this.#cancelLook = undefined;
      this.#look();
    }, inMs);
  }

  #endStartWaits(): void {
    for (const resolve of this.#startWaiters.splice(0)) resolve();
  }

  #running(replica: Replica): void {
    if (this.#placeOf(replica)?.revision === this.#target.revision) this.#hasEverRun = true;
    this.#isOut = false;
    this.queue.addReplica(replica);
    this.#health.watch(replica);
    this.#environment.observer.running(replica);
  }

  #left(replica: Replica, crash: InfermuxError | undefined): void {
    this.#health.forget(replica);
    this.queue.removeReplica(replica, crash);
    this.#environment.observer.left(replica);
  }

  #failed(place: ReplicaPlace, error: InfermuxError, delayMs: number): void {
    if (this.#isStopped) return;
    this.#lastFailure = error;
    this.#goal.replicaFailed();
    const { observer } = this.#environment;
    if (place.replica?.hasRun !== true) this.#couldNotStart(place, error);
    observer.restarting(place.id, error, delayMs);
  }

  #couldNotStart(place: ReplicaPlace, error: InfermuxError): void {
    if (place.revision === this.#target.revision) this.#failedStarts += 1;
    const most = Math.min(MOST_FAILED_STARTS, FAILED_STARTS_PER_REPLICA * Math.max(1, this.#target.replicas));
    if (!this.#isDeleting && !this.#hasEverRun && this.#failedStarts >= most) {
      const message = `deployment ${this.name}: ${this.#failedStarts} starts failed, and none succeeded: ${error.message}`;
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

  #placeOf(replica: Replica): ReplicaPlace | undefined {
    return this.#pool.places.find((place) => place.replica === replica);
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
    this.#look();
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
