import { settlesWithin } from '../common/clock.js';
import { InfermuxError } from '../common/errors.js';
import { isSameData } from '../common/values/realm.js';
import type { Replica } from '../replicas/replica.js';
import type { ReplicaPlace } from '../replicas/replica-pool.js';
import { AutoscalingLoop } from './autoscaling/autoscaling-loop.js';
import { configChange } from './config/config-change.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import { withRouter } from './config/router-module.js';
import type { ExpressReplica } from './control/express-replica.js';
import { ReplicaController } from './control/replica-controller.js';
import { firstTarget, nextTarget } from './control/target.js';
import type { DeploymentEnvironment, DeploymentQueue } from './deployment-environment.js';
import { type DeploymentState, deploymentState } from './deployment-state.js';
import { GoalPursuit } from './goal-pursuit.js';
import { type Goal, reachedGoal } from './goals.js';
import { ReplicaMonitor } from './health/replica-monitor.js';

/**
 * One deployment: its options, its goal and its queue. Changes set the target of a {@link ReplicaController}, which
 * starts and stops the replicas; what happens to them decides the goal.
 */
export class Deployment<Q extends DeploymentQueue = DeploymentQueue> {
  readonly name: string;
  readonly queue: Q;
  readonly #environment: DeploymentEnvironment<Q>;
  readonly #controller: ReplicaController;
  readonly #monitor: ReplicaMonitor;
  readonly #autoscaling: AutoscalingLoop;
  readonly #pursuit: GoalPursuit;
  #options: ResolvedDeploymentOptions;
  /** Whether the last starts failed, so that no replica runs. */
  #isOut = false;
  #isDeleting = false;

  constructor(name: string, options: ResolvedDeploymentOptions, environment: DeploymentEnvironment<Q>) {
    const { memory, observer, pool, queue, random, weightStore } = environment;
    this.#environment = environment;
    this.name = name;
    this.queue = queue;
    this.#options = options;
    this.#pursuit = new GoalPursuit(name, environment.goalId);
    this.#controller = new ReplicaController(
      name,
      firstTarget(options),
      { memory, pool, queue, weightStore, options: () => this.#options },
      {
        running: (replica) => this.#running(replica),
        removed: (replica, crash) => this.#removed(replica, crash),
        stateChanged: (replica, state) => observer.stateChanged(replica, state),
        modelChanged: (replica, modelKey) => queue.modelChanged(replica, modelKey),
        event: (replica, event) => {
          this.#monitor.event(replica, event);
          observer.event(replica, event);
        },
        failed: (place, error, delayMs) => this.#failed(place, error, delayMs),
        handlerUsed: (handler) => observer.handlerUsed(handler),
        configRefused: (error) => this.#pursuit.fail(error),
        log: (level, fields, message) => observer.log(level, fields, message),
        resting: () => {
          if (!this.#isDeleting && this.#controller.isReached) this.#pursuit.reached();
        },
      },
    );
    this.#monitor = new ReplicaMonitor(name, () => this.#options, pool.clock, random, observer);
    const scaleTo = (to: number) => this.#scaleTo(environment.fitting(this.#options, this.targetReplicas, to));
    const scaled = { requests: () => queue.queued + this.ongoing, replicas: () => this.targetReplicas, scaleTo };
    this.#autoscaling = new AutoscalingLoop(scaled, pool.clock);
  }

  /** The options in force. */
  get options(): ResolvedDeploymentOptions {
    return this.#options;
  }

  get places(): readonly ReplicaPlace[] {
    return this.#controller.places;
  }

  /** Replicas that take requests, without the express replica. */
  get running(): Replica[] {
    return this.#controller.running;
  }

  /** The express replica, which is none of the {@link places} and not among the {@link running}. */
  get express(): Pick<ExpressReplica, 'place' | 'running' | 'need'> {
    return this.#controller.express;
  }

  /** Number of ongoing requests. */
  get ongoing(): number {
    return this.#controller.ongoing;
  }

  get targetReplicas(): number {
    return this.#controller.target.replicas;
  }

  get goal(): Goal {
    return this.#pursuit.goal;
  }

  get state(): DeploymentState {
    const { isReached, places } = this.#controller;
    return deploymentState({ isDeleting: this.#isDeleting, isReached, goal: this.#pursuit.status, places });
  }

  /** Whether requests are answered: a replica runs, or the first request starts one. */
  get isReady(): boolean {
    if (this.#isDeleting) return false;
    return this.running.length > 0 || (this.#mayScaleToZero && this.targetReplicas === 0 && !this.#isOut);
  }

  /** Whether the deployment has no replica, and no request starts one. */
  get isEmpty(): boolean {
    return this.targetReplicas === 0 && !this.#mayScaleToZero;
  }

  /** Why a replica last failed. */
  get lastFailure(): InfermuxError | undefined {
    return this.#pursuit.lastFailure;
  }

  /** Whether the handler brings its own models; false until a replica has run. */
  get hasOwnModels(): boolean {
    return this.running.some(({ hello }) => hello?.handler?.loadsModels === true);
  }

  /** Begins to pursue the target. */
  start(): Goal {
    this.#autoscaling.configure(this.#options.autoscaling);
    this.#announceScale(0);
    this.#controller.look();
    return this.goal;
  }

  /** @returns the goal that the target is reached: a reached goal if it is, and another try if the last goal failed. */
  pursueAgain(goalId?: string): Goal {
    if (this.#controller.isReached) return reachedGoal(goalId);
    if (this.#pursuit.status !== 'failed') return this.goal;
    this.#pursue(goalId);
    this.#controller.look();
    return this.goal;
  }

  /** Resolves when the goal is decided, or when a replica failed, so that the goal may take for ever. */
  untilDecidedOrFailing(): Promise<void> {
    return this.#pursuit.decidedOrFailing;
  }

  /**
   * Resolves when each replica has started or failed to, and at least one runs or the target is 0.
   *
   * @throws InfermuxError `REPLICA_FAILED` with the reason when none runs.
   */
  async untilStarted(): Promise<void> {
    await this.#controller.untilStarted();
    if (this.running.length > 0 || this.targetReplicas === 0) return;
    throw this.lastFailure ?? new InfermuxError('REPLICA_FAILED', 'no replica could be started');
  }

  /** @returns the goal that these options are in force. */
  update(options: ResolvedDeploymentOptions, goalId?: string): Goal {
    const before = this.#options;
    const change = configChange(before, options, this.#controller.canReconfigure);
    if (!change.isAny) return this.pursueAgain(goalId);
    const { target } = this.#controller;
    this.#options = options;
    this.#controller.aim(nextTarget(target, change, before, options));
    this.#pursue(goalId);
    this.queue.configure(withRouter(options));
    // Otherwise autoscaling would begin to count from zero after each change.
    if (!isSameData(before.autoscaling, options.autoscaling)) this.#autoscaling.configure(options.autoscaling);
    if (!isSameData(before.routingStats, options.routingStats))
      for (const replica of this.running) this.#monitor.restartStats(replica);
    this.#announceScale(target.replicas);
    this.#controller.look();
    return this.goal;
  }

  /** Why requests are refused: no replica runs, and none can be started. */
  get refusal(): InfermuxError | undefined {
    if (this.targetReplicas > 0 || !this.#mayScaleToZero) return this.queue.outage;
    return this.#environment.refusalOf(this.#options, 0, 1);
  }

  /** A request comes. Call it only when {@link targetReplicas} is 0, before it is submitted. */
  requestArrived(): void {
    const { refusal } = this;
    if (!this.#mayScaleToZero) return;
    if (refusal === undefined) this.#scaleTo(1);
    else this.queue.declareOutage(refusal);
  }

  /**
   * Takes no new work, finishes accepted work and ends all replicas.
   *
   * @param force reject accepted work at once.
   */
  delete({ force }: { force: boolean }): Goal {
    this.#pursue();
    this.#isDeleting = true;
    this.#controller.stopReconfiguring();
    const refusal = new InfermuxError('FAILED_PRECONDITION', `deployment ${this.name} was deleted`);
    if (force) this.queue.destroy(refusal);
    else this.queue.close(refusal);
    void this.#drain(force);
    return this.goal;
  }

  /**
   * Ends all replicas and starts none; resolves when their threads are gone. A replica that does not end in time is
   * abandoned: its thread ends as soon as it is in no native call. Idempotent.
   */
  async stop({ hurry }: { hurry: boolean }): Promise<void> {
    this.#autoscaling.stop();
    this.#controller.halt();
    const closing = new InfermuxError('ENGINE_CLOSED', `the engine is closing, and with it deployment ${this.name}`);
    // The goal of a deletion is reached all the same.
    if (!this.#isDeleting) this.#pursuit.fail(closing);
    await this.#controller.stopAll({ hurry, graceMs: this.#options.gracefulShutdownTimeoutMs });
    await this.untilGone();
  }

  /** Resolves when no thread is left, those of abandoned replicas included. */
  untilGone(): Promise<void> {
    return this.#controller.untilGone();
  }

  get #mayScaleToZero(): boolean {
    return this.#options.autoscaling?.minReplicas === 0;
  }

  async #drain(force: boolean): Promise<void> {
    const [{ gracefulShutdownTimeoutMs: graceMs }, { clock }] = [this.#options, this.#environment.pool];
    const until = clock.now() + graceMs;
    if (!force) await settlesWithin(clock, this.queue.untilIdle(), graceMs);
    const message = `deployment ${this.name} was deleted, and the request was not answered within ${graceMs} ms`;
    this.queue.destroy(new InfermuxError('FAILED_PRECONDITION', message));
    this.#autoscaling.stop();
    this.#controller.halt();
    await this.#controller.stopAll({ hurry: true, graceMs: Math.max(0, until - clock.now()) });
    this.#pursuit.reached();
  }

  #pursue(goalId?: string): void {
    const isRunning = this.running.some((replica) => this.#controller.isCurrent(replica));
    this.#pursuit.begin(isRunning, goalId);
    this.#controller.forgetRefusals();
    // Starts for another target may succeed where the last ones failed.
    this.#isOut = false;
    this.queue.endOutage();
  }

  #running(replica: Replica): void {
    if (this.#controller.isCurrent(replica)) this.#pursuit.replicaRan();
    this.#isOut = false;
    this.queue.addReplica(replica);
    this.#monitor.watch(replica);
    this.#environment.observer.running(replica);
  }

  #removed(replica: Replica, crash: InfermuxError | undefined): void {
    this.#monitor.forget(replica);
    this.queue.removeReplica(replica, crash);
    this.#environment.observer.removed(replica, crash);
  }

  #failed(place: ReplicaPlace, error: InfermuxError, delayMs: number): void {
    // An express replica decides neither a goal nor an outage.
    if (!place.settings.isExpress) {
      this.#pursuit.replicaFailed(error);
      if (place.replica?.hasRun !== true) this.#couldNotStart(place, error);
    }
    this.#environment.observer.restarting(place.id, error, delayMs);
  }

  #couldNotStart(place: ReplicaPlace, error: InfermuxError): void {
    const { target } = this.#controller;
    if (!this.#isDeleting) this.#pursuit.startFailed(error, place.revision === target.revision, target.replicas);
    const outage = this.#controller.outage(error);
    if (outage === undefined) return;
    this.#isOut = true;
    this.#environment.observer.outage(outage);
    this.queue.declareOutage(outage);
  }

  #scaleTo(replicas: number): void {
    const before = this.#controller.target;
    if (this.#controller.isHalted || this.#isDeleting) return;
    this.#controller.aim({ ...before, replicas });
    if (replicas === 0 || before.replicas === 0) this.queue.endOutage();
    this.#announceScale(before.replicas);
    this.#controller.look();
  }

  #announceScale(before: number): void {
    if (this.targetReplicas !== before) this.#environment.observer.scaled(before, this.targetReplicas);
  }
}
