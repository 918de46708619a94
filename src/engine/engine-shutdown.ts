import { type Clock, settlesWithin } from '../common/clock.js';
import { InfermuxError } from '../common/errors.js';
import type { ResolvedDeploymentOptions } from '../deployments/config/deployment-options.js';
import type { Deployments } from '../deployments/deployments.js';
import type { Endpoints } from '../endpoints/endpoints.js';
import type { ManagedModels } from '../models/managed-models.js';
import type { EngineMetrics } from '../observability/engine-metrics.js';
import type { Log } from '../observability/log.js';
import type { Replica } from '../replicas/replica.js';
import type { WeightSharing } from '../replicas/sharing/weight-sharing.js';
import type { Dispatcher } from '../routing/dispatcher.js';
import type { Slabs } from '../tensors/memory/slabs.js';
import type { EngineCheckpoint } from './engine-checkpoint.js';
import type { KeepAlive } from './keep-alive.js';
import type { CapacityWaits } from './requests/capacity-waits.js';
import type { EngineState } from './status.js';

/** The parts of the engine that a shutdown ends. */
export interface EngineShutdownParts {
  readonly managed: ManagedModels;
  readonly waits: CapacityWaits;
  readonly deployments: Deployments<Dispatcher<Replica>>;
  readonly endpoints: Endpoints;
  readonly checkpoint: EngineCheckpoint;
  readonly keepAlive: KeepAlive;
  readonly metrics: EngineMetrics;
  readonly log: Log;
  readonly slabs: Slabs;
  readonly sharing: WeightSharing;
  /** Options of the default deployment. */
  readonly defaultOptions: ResolvedDeploymentOptions;
}

/** Ends an engine, at once or when its accepted work is done, and knows its state. Each way settles once. */
export class EngineShutdown {
  readonly #parts: EngineShutdownParts;
  readonly #clock: Clock;
  #state: EngineState = 'running';
  #closed: Promise<void> | undefined;
  #destroyed: Promise<void> | undefined;
  #ended: Promise<void> | undefined;

  constructor(parts: EngineShutdownParts, clock: Clock) {
    this.#parts = parts;
    this.#clock = clock;
  }

  get state(): EngineState {
    return this.#state;
  }

  /** @throws InfermuxError `ENGINE_CLOSED` when the engine no longer takes work. */
  checkRunning(): void {
    if (this.#state !== 'running') throw closedError(`the engine is ${this.#state}`);
  }

  /** Takes no new work, finishes accepted work within the grace and ends the threads. The first call's grace counts. */
  close(graceMs: number): Promise<void> {
    const { keepAlive, deployments } = this.#parts;
    this.#closed ??= keepAlive.during(async () => {
      await this.#begin();
      const queues = deployments.all.map(({ queue }) => queue);
      for (const queue of queues) queue.close(closedError('the engine is closing'));
      const idle = Promise.all(queues.map((queue) => queue.untilIdle()));
      const isDrained = await settlesWithin(this.#clock, idle, graceMs);
      const late = closedError(`the engine was closed and ${graceMs} ms of grace passed`);
      if (!isDrained) for (const queue of queues) queue.destroy(late);
      await this.#end({ hurry: !isDrained });
    });
    return this.#closed;
  }

  /** Rejects all work at once, and ends each thread as soon as it is in no native call. */
  destroy(): Promise<void> {
    const { keepAlive, deployments } = this.#parts;
    this.#destroyed ??= keepAlive.during(async () => {
      const begun = this.#begin();
      const error = closedError('the engine was destroyed');
      for (const { queue } of deployments.all) queue.destroy(error);
      await begun;
      await this.#end({ hurry: true });
    });
    return this.#destroyed;
  }

  /** Refuses further work and changes. Resolves when no change is under way. */
  async #begin(): Promise<void> {
    const { managed, waits, endpoints, deployments, sharing } = this.#parts;
    const error = closedError('the engine is closing');
    if (this.#state === 'running') {
      this.#state = 'closing';
      managed.close(error);
      waits.close(error);
      endpoints.close(error);
      void sharing.close();
    }
    await deployments.close(error);
  }

  /** Ends all threads. A thread that takes too long is left to end by itself. */
  #end(how: { hurry: boolean }): Promise<void> {
    const { deployments } = this.#parts;
    const stops = deployments.all.map((deployment) => deployment.stop(how));
    const stopped = Promise.all([...stops, deployments.untilGone()]);
    this.#ended ??= this.#finish(stopped);
    return this.#ended;
  }

  async #finish(stopped: Promise<unknown>): Promise<void> {
    const { managed, deployments, checkpoint, metrics, log, slabs, sharing, defaultOptions } = this.#parts;
    const grace = deployments.all.map(({ options }) => options.gracefulShutdownTimeoutMs);
    const longestMs = Math.max(defaultOptions.gracefulShutdownTimeoutMs, ...grace);
    if (!(await settlesWithin(this.#clock, stopped, longestMs))) {
      log.write('warn', {}, 'replicas are still in native code and are left behind; their threads end when it returns');
    }
    // Callers are told in portions.
    await Promise.all(deployments.all.map(({ queue }) => queue.untilIdle()));
    await checkpoint.untilWritten();
    await sharing.close();
    managed.search.end();
    metrics.close();
    slabs.close();
    this.#state = 'closed';
  }
}

function closedError(message: string): InfermuxError {
  return new InfermuxError('ENGINE_CLOSED', message);
}
