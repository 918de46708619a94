import type { ResourceLimits } from 'node:worker_threads';
import type { Clock } from '../clock.js';
import { InfermuxError, toInfermuxError } from '../errors.js';
import type { WeightPlacement } from '../model-reference.js';
import { hashMemory } from '../protocol/hash-memory.js';
import type { ReplicaEvent, WeightStoreSettings, WorkerSettings } from '../protocol/messages.js';
import { QueueCounters } from '../protocol/queue-counters.js';
import { guardExit } from './exit-hook.js';
import { Replica } from './replica.js';
import type { ReplicaState } from './replica-state.js';
import { RECOVERED_AFTER_MS, restartDelayMs } from './restart-backoff.js';
import { WorkerThread } from './worker-thread.js';

const REPLICA_WORKER = new URL('../worker/replica-worker.js', import.meta.url);
const START_TIMEOUT_MS = 60_000;
/** So many files are hashed once for all replicas: 68 bytes each. */
const HASHED_FILES = 1_024;
/** Longest time that `process.exit()` waits for a native call; beyond it the process aborts. */
const EXIT_TIMEOUT_MS = 20_000;

export interface ReplicaPoolOptions {
  /** Replicas are called `<name>-0`, `<name>-1` and so on. */
  readonly name: string;
  readonly replicas: number;
  readonly maxModels: number;
  readonly maxModelBytes: number;
  readonly modelIdleTimeoutMs: number;
  readonly session: Readonly<Record<string, unknown>>;
  readonly weights: WeightPlacement;
  readonly weightStore: WeightStoreSettings;
}

/** What a pool takes from its surroundings; tests put their own in. */
export interface ReplicaPoolEnvironment {
  readonly clock: Clock;
  readonly worker?: URL;
  readonly resourceLimits?: ResourceLimits;
}

export interface ReplicaPoolObserver {
  /** The replica takes requests from now on. */
  running(replica: Replica): void;
  /** The replica takes no more requests; `crash` is why, if it failed. */
  left(replica: Replica, crash?: InfermuxError): void;
  stateChanged(replica: Replica, state: ReplicaState): void;
  modelChanged(replica: Replica, modelKey: string): void;
  event(replica: Replica, event: ReplicaEvent): void;
  /** A replica that failed is started again after `delayMs`. */
  restarting(id: string, error: InfermuxError, delayMs: number): void;
  /** No replica runs, and none could be started several times in a row; the last one because of `error`. */
  outage(error: InfermuxError): void;
}

/** A place in the pool: the replica that holds it now, and how it fared. */
export interface ReplicaPlace {
  readonly id: string;
  replica: Replica | undefined;
  restarts: number;
  failuresInRow: number;
  runningSince: number | undefined;
  cancelRestart: (() => void) | undefined;
}

/** Keeps the wanted number of replicas up: one thread of its own for each, restarted with back-off when it fails. */
export class ReplicaPool {
  readonly #options: ReplicaPoolOptions;
  readonly #environment: ReplicaPoolEnvironment;
  readonly #observer: ReplicaPoolObserver;
  readonly #counters: QueueCounters;
  readonly #fileHashes = hashMemory(HASHED_FILES);
  readonly #places: ReplicaPlace[];
  /** Replicas whose thread is not gone yet. */
  readonly #alive = new Set<Replica>();
  #isStopping = false;

  constructor(options: ReplicaPoolOptions, environment: ReplicaPoolEnvironment, observer: ReplicaPoolObserver) {
    this.#options = options;
    this.#environment = environment;
    this.#observer = observer;
    // Twice as many lines as replicas: a failed one may keep its line while its successor starts.
    this.#counters = new QueueCounters(2 * options.replicas);
    this.#places = Array.from({ length: options.replicas }, (_, index) => ({
      id: `${options.name}-${index}`,
      replica: undefined,
      restarts: 0,
      failuresInRow: 0,
      runningSince: undefined,
      cancelRestart: undefined,
    }));
  }

  get places(): readonly ReplicaPlace[] {
    return this.#places;
  }

  /**
   * Starts all replicas; resolves when each has started or failed to, and at least one runs.
   *
   * @throws InfermuxError `REPLICA_FAILED` when none does, with the reason of the first.
   */
  async start(): Promise<void> {
    const failures = await Promise.all(this.#places.map((place) => this.#start(place)));
    if (this.#places.some(({ replica }) => replica?.state === 'running')) return;
    const failure = failures.find((error) => error !== undefined);
    throw failure ?? new InfermuxError('REPLICA_FAILED', 'no replica could be started');
  }

  /** Ends all replicas and starts none; resolves when their threads are gone. Idempotent. */
  async stop(how: { hurry: boolean }): Promise<void> {
    this.#isStopping = true;
    for (const place of this.#places) place.cancelRestart?.();
    await Promise.all([...this.#alive].map((replica) => replica.stop(how)));
  }

  async #start(place: ReplicaPlace): Promise<InfermuxError | undefined> {
    let replica: Replica;
    try {
      replica = this.#create(place);
      await replica.start();
    } catch (cause) {
      return this.#couldNotStart(place, toInfermuxError(cause));
    }
    if (replica.state !== 'running') return undefined; // told to stop meanwhile
    place.runningSince = this.#environment.clock.now();
    this.#observer.running(replica);
    return undefined;
  }

  #create(place: ReplicaPlace): Replica {
    const line = this.#counters.take();
    if (line === undefined) throw noLineFree();
    const { maxModels, maxModelBytes, modelIdleTimeoutMs, session, weights, weightStore } = this.#options;
    const settings: WorkerSettings = {
      replica: place.id,
      counters: this.#counters.memory,
      counterSlot: line.slot,
      maxModels,
      maxModelBytes,
      modelIdleTimeoutMs,
      session,
      weights,
      weightStore,
      fileHashes: this.#fileHashes,
    };
    const { worker: entry = REPLICA_WORKER, resourceLimits } = this.#environment;
    const thread = new WorkerThread({ entry, settings, resourceLimits }, line.counters);
    const options = { id: place.id, startTimeoutMs: START_TIMEOUT_MS, modelIdleTimeoutMs, maxModelBytes };
    const replica = new Replica(options, thread, line.counters, this.#environment.clock, {
      stateChanged: (changed, state) => {
        if (state === 'draining') this.#observer.left(changed);
        this.#observer.stateChanged(changed, state);
      },
      failed: (failed, error) => this.#failed(place, failed, error),
      modelChanged: (changed, modelKey) => this.#observer.modelChanged(changed, modelKey),
      event: (sender, event) => this.#observer.event(sender, event),
    });
    place.replica = replica;
    this.#alive.add(replica);
    const unguard = guardExit(line.counters, EXIT_TIMEOUT_MS);
    void thread.ended.then(() => {
      unguard();
      this.#alive.delete(replica);
      line.counters.reset();
      this.#counters.giveBack(line.slot);
    });
    return replica;
  }

  #failed(place: ReplicaPlace, replica: Replica, error: InfermuxError): void {
    // One that never ran is counted by its start, which rejects.
    if (place.runningSince === undefined) return;
    const ranMs = this.#environment.clock.now() - place.runningSince;
    place.runningSince = undefined;
    if (ranMs >= RECOVERED_AFTER_MS) place.failuresInRow = 0;
    this.#observer.left(replica, error);
    this.#restart(place, error);
  }

  #couldNotStart(place: ReplicaPlace, error: InfermuxError): InfermuxError {
    this.#restart(place, error);
    const retryAfterMs = restartDelayMs(place.failuresInRow);
    if (this.#places.every(isHopeless) && !this.#isStopping) {
      const message = `no replica can be started: ${error.message}`;
      this.#observer.outage(new InfermuxError('REPLICA_FAILED', message, { cause: error, retryAfterMs }));
    }
    return error;
  }

  #restart(place: ReplicaPlace, error: InfermuxError): void {
    if (this.#isStopping) return;
    place.failuresInRow += 1;
    const delayMs = restartDelayMs(place.failuresInRow);
    this.#observer.restarting(place.id, error, delayMs);
    place.cancelRestart = this.#environment.clock.schedule(() => {
      place.cancelRestart = undefined;
      place.restarts += 1;
      void this.#start(place);
    }, delayMs);
  }
}

/** Not up, after several failures in a row. */
function isHopeless({ replica, failuresInRow }: ReplicaPlace): boolean {
  return replica?.state !== 'running' && restartDelayMs(failuresInRow) > 0;
}

function noLineFree(): InfermuxError {
  return new InfermuxError('REPLICA_FAILED', 'too many replicas are still ending to start another one');
}
