import type { ResourceLimits } from 'node:worker_threads';
import type { Clock } from '../../common/clock.js';
import type { ReplicaRuntimeSettings } from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { launchOf } from '../processes/launch.js';
import { SpareProcesses } from '../processes/spare-processes.js';
import { WorkerProcess } from '../processes/worker-process.js';
import type { ReplicaMemory } from '../replica-memory.js';
import type { ReplicaPlace, ReplicaSettings } from '../replica-pool.js';
import { replicaEntry } from '../threads/replica-entry.js';
import { WorkerThread } from '../threads/worker-thread.js';
import type { ReplicaHost } from './replica-host.js';

export interface ReplicaHostsEnvironment {
  readonly clock: Clock;
  /** The module that the threads run. */
  readonly worker: URL;
  /** The program of the processes. Default: the one that comes with the package. */
  readonly processWorker?: URL;
  readonly resourceLimits?: ResourceLimits;
}

/** The program of a replica's process, beside the module of its threads. */
const PROGRAM = './replica-process.js';
/** A spare that has ended by itself is replaced after so long. */
const SPARE_PAUSE_MS = 5_000;

/** A line of the shared counters. */
interface CounterLine {
  readonly slot: number;
  readonly counters: ReplicaCounters;
}

/** Makes the threads and processes that replicas run in, and keeps spare processes. */
export class ReplicaHosts {
  readonly #memory: ReplicaMemory;
  readonly #environment: ReplicaHostsEnvironment;
  readonly #spares: SpareProcesses;
  #places: readonly ReplicaPlace[] = [];

  constructor(memory: ReplicaMemory, environment: ReplicaHostsEnvironment) {
    this.#memory = memory;
    this.#environment = environment;
    const program = () => environment.processWorker ?? new URL(PROGRAM, replicaEntry());
    this.#spares = new SpareProcesses(program, () => {
      // Not at once: one that cannot start would be started again and again.
      environment.clock.schedule(() => this.tend(this.#places), SPARE_PAUSE_MS);
    });
  }

  create(id: string, { isolation, labels: _, ...own }: ReplicaSettings, line: CounterLine): ReplicaHost {
    const { counters, fileHashes } = this.#memory;
    const { worker: entry, resourceLimits, clock } = this.#environment;
    const settings: ReplicaRuntimeSettings = { replica: id, ...own };
    if (isolation === 'thread') {
      const shared = { counters: counters.memory, counterSlot: line.slot, fileHashes };
      return new WorkerThread({ entry, settings: { ...settings, ...shared }, resourceLimits }, line.counters);
    }
    const process = () => this.#spares.take(launchOf(isolation, own.isExpress));
    return new WorkerProcess({ settings, limits: isolation, clock, process }, counters, line.counters);
  }

  /**
   * Keeps spares for the newest of the places as long as their replicas are processes. None starts while a replica starts:
   * that goes first. Call it when places or states have changed.
   */
  tend(places: readonly ReplicaPlace[]): void {
    this.#places = places;
    let newest: ReplicaPlace | undefined;
    for (const place of places) {
      if (!place.isLeaving && place.revision >= (newest?.revision ?? place.revision)) newest = place;
    }
    if (newest === undefined || newest.settings.isolation === 'thread' || newest.settings.isExpress) this.#spares.end();
    else if (places.every(({ replica }) => replica?.state !== 'starting'))
      this.#spares.keep(newest.settings.isolation.spares, launchOf(newest.settings.isolation, false));
  }

  /** Resolves when no spare is left that has ended. */
  untilGone(): Promise<void> {
    return this.#spares.untilGone();
  }
}
