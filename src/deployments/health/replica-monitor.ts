import type { Clock } from '../../common/clock.js';
import type { Replica } from '../../replicas/replica.js';
import type { ReplicaPoolObserver } from '../../replicas/replica-pool.js';
import type { ResolvedDeploymentOptions } from '../config/deployment-options.js';
import type { DeploymentObserver } from '../deployment-environment.js';
import { HealthChecks } from './health-checks.js';
import { LoadWatch } from './load-watch.js';
import { RoutingStatsCalls } from './routing-stats-calls.js';

type ReplicaEvent = Parameters<ReplicaPoolObserver['event']>[1];

/**
 * Calls the running replicas of a deployment at regular times: health checks, and the routing statistics of their
 * handlers. An unhealthy replica is abandoned, and so is one whose load takes too long.
 */
export class ReplicaMonitor {
  readonly #health: HealthChecks<Replica>;
  readonly #loads: LoadWatch<Replica>;
  readonly #stats: RoutingStatsCalls<Replica>;

  /**
   * @param options the options in force, read before each call.
   * @param random uniform in [0, 1).
   */
  constructor(
    deployment: string,
    options: () => Pick<ResolvedDeploymentOptions, 'healthCheck' | 'loadTimeoutMs' | 'routingStats'>,
    clock: Clock,
    random: () => number,
    observer: Pick<DeploymentObserver, 'log'>,
  ) {
    this.#health = new HealthChecks(() => options().healthCheck, clock, {
      failed: ({ id: replica }, { message: reason }, failuresInRow) =>
        observer.log('warn', { deployment, replica, reason, failuresInRow }, 'replica failed a health check'),
      unhealthy: (replica, error) => replica.abandon(error),
    });
    this.#loads = new LoadWatch(
      () => options().loadTimeoutMs,
      clock,
      (replica, error) => replica.abandon(error),
    );
    this.#stats = new RoutingStatsCalls(
      () => options().routingStats,
      clock,
      random,
      ({ id: replica }, reason) =>
        observer.log('warn', { deployment, replica, reason }, "the handler's recordRoutingStats failed"),
    );
  }

  watch(replica: Replica): void {
    this.#health.watch(replica);
    this.restartStats(replica);
  }

  /** Tells of an event of the replica: loads have a bound. */
  event(replica: Replica, event: ReplicaEvent): void {
    if (event.kind === 'model-loading') this.#loads.begun(replica, event);
    else if (event.kind === 'model-loaded' || event.kind === 'model-load-failed') this.#loads.ended(replica);
  }

  /** Begins a new period of routing statistics, by the options in force. */
  restartStats(replica: Replica): void {
    this.#stats.forget(replica);
    if (replica.hello?.handler?.recordsStats === true) this.#stats.watch(replica);
  }

  forget(replica: Replica): void {
    this.#health.forget(replica);
    this.#loads.ended(replica);
    this.#stats.forget(replica);
  }
}
