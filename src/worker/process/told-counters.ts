import type { Counts } from '../../protocol/frames/frame-format.js';
import { QueueCounters, type ReplicaCounters, type StopLevel } from '../../protocol/queue-counters.js';

/** The counters of a replica in a process of its own. What threads read in shared memory comes with the messages. */
export class ToldCounters {
  readonly memory: SharedArrayBuffer;
  readonly slot: number;
  readonly own: ReplicaCounters;
  readonly #all = new QueueCounters(2);
  /** Stands for all other replicas of the engine. */
  readonly #others: ReplicaCounters;
  #revision: number | undefined;

  constructor() {
    const [own, others] = [this.#all.take(), this.#all.take()];
    if (own === undefined || others === undefined) throw new Error('there is a line for two');
    this.memory = this.#all.memory;
    this.slot = own.slot;
    this.own = own.counters;
    this.#others = others.counters;
  }

  /** What the calling process has to know. */
  get counts(): Counts {
    const { failed, bytes } = this.own;
    return [failed, bytes, 0];
  }

  told([stop, revision, othersAtWork]: Counts): void {
    this.own.raiseStop(stop as StopLevel);
    if (this.#revision !== undefined && this.#revision !== revision) this.#all.catalogChanged();
    this.#revision = revision;
    const wereAtWork = this.#others.dispatches > 0;
    if (othersAtWork > 0 && !wereAtWork) this.#others.dispatchGiven(0);
    else if (othersAtWork === 0 && wereAtWork) this.#others.dispatchDone(0, 0);
  }
}
