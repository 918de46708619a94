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

interface UnderWay {
  readonly work: Work;
  readonly begunAt: number;
  /** Called at the end. */
  readonly done: (slowdown: number) => void;
  /** Milliseconds that were left of it at `since`. */
  left: number;
  since: number;
  /** Share of the cores that it can use that it has. */
  share: number;
  /** Whether it has ever had fewer. */
  wasSlowed: boolean;
  cancel: () => void;
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
  readonly #underWay = new Set<UnderWay>();
  /** Cores that work which goes first can use, and those that other work can use. */
  #firstDemand = 0;
  #otherDemand = 0;
  #firstShare = 1;
  #otherShare = 1;

  constructor(clock: VirtualClock, cores: number) {
    this.clock = clock;
    this.cores = cores;
  }

  /**
   * Begins the work.
   *
   * @param done is told how many times as long it took as with all cores that it can use.
   * @returns a function that ends the work before it is done.
   */
  begin(work: Work, done: (slowdown: number) => void): () => void {
    this.#demand(work, work.threads);
    const now = this.clock.now();
    const underWay: UnderWay = {
      ...{ work, done, begunAt: now, left: work.milliseconds, since: now },
      ...{ share: this.#shareOf(work), wasSlowed: false, cancel: () => undefined },
    };
    this.#underWay.add(underWay);
    this.#schedule(underWay);
    return () => {
      underWay.cancel();
      this.#end(underWay);
    };
  }

  #schedule(underWay: UnderWay): void {
    const { left, share, done, work, begunAt } = underWay;
    if (share < 1) underWay.wasSlowed = true;
    if (share <= 0) return;
    underWay.cancel = this.clock.after(share === 1 ? left : left / share, () => {
      this.#end(underWay);
      const isSlowed = underWay.wasSlowed && work.milliseconds > 0;
      done(isSlowed ? (this.clock.now() - begunAt) / work.milliseconds : 1);
    });
  }

  #end(underWay: UnderWay): void {
    if (this.#underWay.delete(underWay)) this.#demand(underWay.work, -underWay.work.threads);
  }

  #shareOf({ goesFirst }: Work): number {
    return goesFirst ? this.#firstShare : this.#otherShare;
  }

  /** More or fewer cores can be used. What gets another share of them than before ends at another time. */
  #demand({ goesFirst }: Work, threads: number): void {
    if (goesFirst) this.#firstDemand += threads;
    else this.#otherDemand += threads;
    const [firstShare, otherShare] = [this.#firstShare, this.#otherShare];
    this.#firstShare = shareOf(this.cores, this.#firstDemand);
    this.#otherShare = shareOf(this.cores - this.#firstDemand, this.#otherDemand);
    if (this.#firstShare === firstShare && this.#otherShare === otherShare) return;
    const now = this.clock.now();
    for (const underWay of this.#underWay) {
      const share = this.#shareOf(underWay.work);
      if (share === underWay.share) continue;
      underWay.cancel();
      underWay.cancel = () => undefined;
      underWay.left = Math.max(0, underWay.left - (now - underWay.since) * underWay.share);
      underWay.since = now;
      underWay.share = share;
      this.#schedule(underWay);
    }
  }
}

function shareOf(cores: number, demand: number): number {
  if (demand <= cores) return 1;
  return Math.max(0, cores) / demand;
}
