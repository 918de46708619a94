import { availableParallelism, totalmem } from 'node:os';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { InferenceEngine } from '../../index.js';
import type { Admission } from '../inference/admission.js';

/** How loaded a node is. */
export interface NodeLoad {
  /** Number of accepted requests that are not answered yet. */
  readonly ongoing: number;
  /** Number of these that wait for a replica. */
  readonly queued: number;
  /**
   * Fraction of the cores that the process used recently, including its threads, but not the processes of isolated
   * replicas.
   */
  readonly cpu: number;
  /** Fraction of the available memory that the process uses. */
  readonly memory: number;
  readonly requestsPerSecond: number;
  readonly errorsPerSecond: number;
  /** Mean delay of the event loop's timers in milliseconds. More than a few mean that there are too few cores. */
  readonly delayMs: number;
}

/** What the load is read from. */
export interface LoadSource {
  /** Milliseconds, of any beginning. */
  now(): number;
  /** Microseconds for which the process has used a core. */
  cpuMicroseconds(): number;
  /** Bytes in memory, and how many there may be. */
  memory(): { readonly used: number; readonly most: number };
  /** Mean of the milliseconds by which timers were late since it was last asked. */
  delayMs(): number;
  /** Ends the measurement. */
  close(): void;
}

/**
 * From this delay on a node is not steady. One whose event loop has work in portions stays well below it; one that gets a
 * tenth of its time, in turns of a tenth of a second as Linux gives it, is above.
 */
const MOST_STEADY_DELAY_MS = 40;
const RESOLUTION_MS = 20;

/** A rate is counted over at least so long. */
const PERIOD_MS = 500;

const CORES = availableParallelism();

/** What this process is. */
function ofThisProcess(): LoadSource {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delays.enable();
  return {
    ...OF_THE_PROCESS,
    close: () => void delays.disable(),
    delayMs: () => {
      const { mean, count } = delays;
      delays.reset();
      // What it tells is the time between two timers.
      return count === 0 ? 0 : Math.max(0, mean / 1e6 - RESOLUTION_MS);
    },
  };
}

const OF_THE_PROCESS: Omit<LoadSource, 'delayMs' | 'close'> = {
  now: () => performance.now(),
  cpuMicroseconds: () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  memory: () => {
    const limit = process.constrainedMemory?.() ?? 0;
    // Without a limit it is 0, or more than there is.
    return { used: process.memoryUsage.rss(), most: limit > 0 ? Math.min(limit, totalmem()) : totalmem() };
  },
};

/** Tells how loaded this node is. What is not asked for costs next to nothing. */
export class LoadMeter {
  readonly #engine: Pick<InferenceEngine, 'status'>;
  readonly #admission: Admission;
  readonly #source: LoadSource;
  #answered = 0;
  #failed = 0;
  #since: { readonly at: number; readonly cpu: number; readonly answered: number; readonly failed: number };
  #load: Omit<NodeLoad, 'ongoing'>;

  constructor(engine: Pick<InferenceEngine, 'status'>, admission: Admission, source: LoadSource = ofThisProcess()) {
    this.#engine = engine;
    this.#admission = admission;
    this.#source = source;
    this.#since = this.#counts();
    this.#load = { queued: 0, cpu: 0, memory: 0, requestsPerSecond: 0, errorsPerSecond: 0, delayMs: 0 };
  }

  /** Requests that the node has accepted and not answered. */
  get ongoing(): number {
    return this.#admission.requests;
  }

  /** An inference request was answered, with outputs or with an error of the server. */
  answered(isFailure: boolean): void {
    this.#answered += 1;
    if (isFailure) this.#failed += 1;
  }

  /** Ends the measurement. */
  close(): void {
    this.#source.close();
  }

  /** Whether the process gets the time that it wants: otherwise requests are better off elsewhere. */
  get isSteady(): boolean {
    return this.read().delayMs < MOST_STEADY_DELAY_MS;
  }

  /** The load of the last half second or longer: since it was last asked for. */
  read(): NodeLoad {
    const before = this.#since;
    const now = this.#counts();
    const ms = now.at - before.at;
    if (ms >= PERIOD_MS) {
      const { used, most } = this.#source.memory();
      this.#since = now;
      this.#load = {
        queued: this.#engine.status().queued,
        cpu: (now.cpu - before.cpu) / (ms * 1_000 * CORES),
        memory: used / most,
        requestsPerSecond: ((now.answered - before.answered) * 1_000) / ms,
        errorsPerSecond: ((now.failed - before.failed) * 1_000) / ms,
        delayMs: this.#source.delayMs(),
      };
    }
    return { ...this.#load, ongoing: this.ongoing };
  }

  #counts() {
    const { now, cpuMicroseconds } = this.#source;
    return { at: now(), cpu: cpuMicroseconds(), answered: this.#answered, failed: this.#failed };
  }
}

/** Milliseconds as answers have them: to a tenth. */
export function shownMs(ms: number): string {
  return String(Math.round(ms * 10) / 10);
}
