import { SharedCores } from './shared-cores.js';
import type { VirtualClock } from './virtual-clock.js';

/** What a replica does for a while: a load or a run. */
export interface Work {
  /** Milliseconds that it takes when it has as many cores as it can use. */
  readonly milliseconds: number;
  /** Cores that it can use. */
  readonly threads: number;
  /** Whether it gets cores before other work does, as a thread with a higher priority. */
  readonly goesFirst: boolean;
}

/**
 * A machine whose cores are shared by the work under way: what goes first has its cores, and the rest goes to the others,
 * in proportion to the cores that they can use (processor sharing). With cores for all of them, nothing waits.
 */
export class SimulatedMachine {
  readonly clock: VirtualClock;
  readonly cores: number;
  /** Replicas with requests. */
  replicasAtWork = 0;
  readonly #first: SharedCores;
  readonly #others: SharedCores;
  /** Cores that work which goes first can use, and those that other work can use. */
  #firstDemand = 0;
  #otherDemand = 0;

  constructor(clock: VirtualClock, cores: number) {
    this.clock = clock;
    this.cores = cores;
    this.#first = new SharedCores(clock);
    this.#others = new SharedCores(clock);
  }

  /**
   * Begins the work.
   *
   * @param done is told how many times as long it took as with all cores that it can use.
   * @returns a function that ends the work before it is done.
   */
  begin({ milliseconds, threads, goesFirst }: Work, done: (slowdown: number) => void): () => void {
    this.#demand(goesFirst, threads);
    let isUnderWay = true;
    const end = () => {
      if (isUnderWay) this.#demand(goesFirst, -threads);
      isUnderWay = false;
    };
    const cancel = (goesFirst ? this.#first : this.#others).begin(milliseconds, (slowdown) => {
      end();
      done(slowdown);
    });
    return () => {
      cancel();
      end();
    };
  }

  #demand(goesFirst: boolean, threads: number): void {
    if (goesFirst) this.#firstDemand += threads;
    else this.#otherDemand += threads;
    this.#first.setShare(shareOf(this.cores, this.#firstDemand));
    this.#others.setShare(shareOf(this.cores - this.#firstDemand, this.#otherDemand));
  }
}

function shareOf(cores: number, demand: number): number {
  if (demand <= cores) return 1;
  return cores <= 0 ? 0 : cores / demand;
}
