import { settlesWithin } from '../common/clock.js';
import { InfermuxError, toInfermuxError } from '../common/errors.js';
import type { EvictionName } from '../contracts/eviction.js';
import type { HandlerTimeouts } from '../contracts/handler.js';
import type { ResolvedIsolation } from '../contracts/isolation.js';
import type { WeightPlacement } from '../contracts/model-reference.js';
import type { ReplicaEvent } from '../protocol/events.js';
import type { WeightStoreSettings } from '../protocol/messages.js';
import { guardExit } from './hosts/exit-hook.js';
import { ReplicaHosts, type ReplicaHostsEnvironment } from './hosts/replica-hosts.js';
import { Replica } from './replica.js';
import type { ReplicaMemory } from './replica-memory.js';
import type { ReplicaOptions } from './replica-options.js';
import { isFinal, type ReplicaState } from './replica-state.js';
import { hadRecovered, RestartPace, restartDelayMs } from './restart-backoff.js';

const START_TIMEOUT_MS = 60_000;
/** The settings that a replica is started with. */
export interface ReplicaSettings {
  readonly eviction: EvictionName;
  readonly maxModels: number;
  readonly maxModelBytes: number;
  readonly modelIdleTimeoutMs: number;
  readonly session: Readonly<Record<string, unknown>>;
  /** Id of the device for execution providers other than the CPU's. */
  readonly device: number | undefined;
  readonly weights: WeightPlacement;
  readonly weightStore: WeightStoreSettings;
  readonly labels: Readonly<Record<string, string>>;
  /** URL of the module that handles requests; undefined when requests are feeds of models. */
  readonly handler: string | undefined;
  readonly userConfig: unknown;
  readonly handlerTimeouts: HandlerTimeouts;
  /** Whether it is the express replica of its deployment, which takes short runs only. */
  readonly isExpress: boolean;
  readonly isolation: ResolvedIsolation;
}

/** The environment of a pool; tests pass their own. */
export type ReplicaPoolEnvironment = ReplicaHostsEnvironment;

export interface ReplicaPoolObserver {
  /** The replica takes requests from now on. */
  running(replica: Replica): void;
  /** The replica takes no more requests. `crash` is the reason if it failed. */
  removed(replica: Replica, crash?: InfermuxError): void;
  stateChanged(replica: Replica, state: ReplicaState): void;
  modelChanged(replica: Replica, modelKey: string): void;
  event(replica: Replica, event: ReplicaEvent): void;
  /** The replica failed, and may start again after `delayMs`. Not called for a place that is leaving. */
  failed(place: ReplicaPlace, error: InfermuxError, delayMs: number): void;
  /** A place was removed, or its replica began to run or failed. */
  changed(): void;
}

/** A place in the pool: its current replica, and the record of its starts and failures. */
export interface ReplicaPlace {
  readonly id: string;
  /** Identifies the settings that its replicas are started with. */
  readonly revision: number;
  settings: ReplicaSettings;
  /** The replica that was started last. */
  replica: Replica | undefined;
  /** Whether the place is being removed, so that no more replica starts here. */
  isLeaving: boolean;
  /** Whether its replica was told to stop and did not in time. Its requests are not to blame for that. */
  isGivenUp: boolean;
  restarts: number;
  /** Failures since a replica here answered a request, or ran for long. */
  failuresInRow: number;
  readonly pace: RestartPace;
  runningSince: number | undefined;
  /** Time of the clock from which a replica may start here. */
  startsAt: number;
}

/** Starts and stops replicas on demand, each with a thread of its own, and tells when a failed one may start again. */
export class ReplicaPool {
  readonly #name: string;
  readonly #memory: ReplicaMemory;
  readonly #environment: ReplicaPoolEnvironment;
  readonly #observer: ReplicaPoolObserver;
  readonly #places: ReplicaPlace[] = [];
  /** `gone` of each replica whose thread is not gone yet. */
  readonly #ends = new Set<Promise<void>>();
  readonly #hosts: ReplicaHosts;

  /** @param name prefix of replica ids: `<name>-0`, `<name>-1` and so on; `<name>-express` for an express replica. */
  constructor(name: string, memory: ReplicaMemory, environment: ReplicaPoolEnvironment, observer: ReplicaPoolObserver) {
    this.#name = name;
    this.#memory = memory;
    this.#environment = environment;
    this.#observer = observer;
    this.#hosts = new ReplicaHosts(memory, environment);
  }

  /** The places, in the order in which they were added. */
  get places(): readonly ReplicaPlace[] {
    return this.#places;
  }

  /** Adds a place for one more replica; for one express replica at a time. Start the replica with {@link start}. */
  add(revision: number, settings: ReplicaSettings): ReplicaPlace {
    const place: ReplicaPlace = {
      id: settings.isExpress ? `${this.#name}-express` : this.#freeId(),
      revision,
      settings,
      replica: undefined,
      isLeaving: false,
      isGivenUp: false,
      restarts: 0,
      failuresInRow: 0,
      pace: new RestartPace(),
      runningSince: undefined,
      startsAt: this.#environment.clock.now(),
    };
    this.#places.push(place);
    return place;
  }

  /** Starts a replica in a place that has none, or one that failed. The observer learns whether it runs. */
  start(place: ReplicaPlace): void {
    if (place.failuresInRow > 0) place.restarts += 1;
    place.replica = undefined;
    void this.#start(place);
  }

  /**
   * Removes the place. A replica takes no new work, finishes given work and ends; one that has not begun to start is
   * forgotten. Resolves when the replica's thread is gone, or the replica was given up.
   *
   * @param how.hurry answers given work that has not begun with `REPLICA_FAILED` instead of running it.
   * @param how.graceMs milliseconds after which the replica is given up: its callers are rejected with
   *   `REPLICA_FAILED`, and its thread ends as soon as it is in no native call.
   */
  async stop(place: ReplicaPlace, { hurry, graceMs }: { hurry: boolean; graceMs: number }): Promise<void> {
    const { replica } = place;
    place.isLeaving = true;
    this.#hosts.tend(this.#places);
    if (replica === undefined || isFinal(replica.state)) {
      this.#remove(place);
      return;
    }
    const stopped = replica.stop({ hurry });
    if (!(await settlesWithin(this.#environment.clock, stopped, graceMs))) {
      place.isGivenUp = true;
      replica.abandon(new Error(`it did not stop within ${graceMs} ms`));
    }
    this.#remove(place);
  }

  /** Resolves when no thread is left, including threads of replicas that failed or were given up. */
  async untilGone(): Promise<void> {
    await Promise.all([...this.#ends, this.#hosts.untilGone()]);
  }

  #freeId(): string {
    let index = 0;
    while (this.#places.some(({ id }) => id === `${this.#name}-${index}`)) index += 1;
    return `${this.#name}-${index}`;
  }

  #remove(place: ReplicaPlace): void {
    const index = this.#places.indexOf(place);
    if (index === -1) return;
    this.#places.splice(index, 1);
    this.#hosts.tend(this.#places);
    this.#observer.changed();
  }

  async #start(place: ReplicaPlace): Promise<void> {
    let replica: Replica;
    try {
      replica = this.#create(place);
    } catch (cause) {
      this.#failed(place, toInfermuxError(cause));
      return;
    }
    try {
      await replica.start();
    } catch (cause) {
      this.#failed(place, toInfermuxError(cause));
      return;
    }
    if (replica.state !== 'running') return; // told to stop meanwhile
    place.runningSince = this.#environment.clock.now();
    this.#observer.running(replica);
    this.#hosts.tend(this.#places);
    this.#observer.changed();
  }

  #create(place: ReplicaPlace): Replica {
    const { counters: allCounters } = this.#memory;
    const line = allCounters.take();
    if (line === undefined) throw noLineFree();
    const { labels, handler, isExpress, weights, session, isolation } = place.settings;
    const { maxModels, maxModelBytes, modelIdleTimeoutMs } = place.settings;
    const host = this.#hosts.create(place.id, place.settings, line);
    const options: ReplicaOptions = {
      ...{ id: place.id, deployment: this.#name, labels, modelIdleTimeoutMs, maxModels, maxModelBytes },
      ...{ startTimeoutMs: START_TIMEOUT_MS, isHandler: handler !== undefined, isExpress, weights, session },
      killsCancelled: isolation !== 'thread' && isolation.killCancelled,
    };
    const replica = new Replica(options, host, line.counters, this.#environment.clock, {
      stateChanged: (changed, state) => {
        if (state === 'draining') this.#observer.removed(changed);
        this.#observer.stateChanged(changed, state);
      },
      failed: (failed, error) => this.#died(place, failed, error),
      modelChanged: (changed, modelKey) => this.#observer.modelChanged(changed, modelKey),
      event: (sender, event) => this.#observer.event(sender, event),
    });
    place.replica = replica;
    const unguard = guardExit({ id: place.id, counters: line.counters, thread: host });
    this.#ends.add(replica.gone);
    // Not earlier: the next owner of the line would see signals that were meant for this replica.
    void replica.gone.then(() => {
      this.#ends.delete(replica.gone);
      unguard();
      line.counters.reset();
      allCounters.giveBack(line.slot);
    });
    return replica;
  }

  #died(place: ReplicaPlace, replica: Replica, error: InfermuxError): void {
    // A replica that never ran is counted when its start rejects.
    if (place.runningSince === undefined) return;
    const ranMs = this.#environment.clock.now() - place.runningSince;
    place.runningSince = undefined;
    const { completed, failed } = replica.counters;
    if (hadRecovered(ranMs, completed + failed)) place.failuresInRow = 0;
    this.#observer.removed(replica, place.isGivenUp ? undefined : error);
    this.#failed(place, error);
  }

  #failed(place: ReplicaPlace, error: InfermuxError): void {
    if (place.isLeaving) return;
    place.failuresInRow += 1;
    const now = this.#environment.clock.now();
    const delayMs = Math.max(restartDelayMs(place.failuresInRow), place.pace.delayMs(now));
    place.startsAt = now + delayMs;
    this.#observer.failed(place, error, delayMs);
    this.#observer.changed();
  }
}

function noLineFree(): InfermuxError {
  return new InfermuxError('REPLICA_FAILED', 'no replica can start now: too many are still ending');
}
