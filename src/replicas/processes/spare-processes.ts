import { isSameData } from '../../common/values/realm.js';
import type { Launch } from './launch.js';
import { ReplicaProcess } from './replica-process.js';

/** Processes that were started in advance: a replica that dies is replaced sooner than a process starts. */
export class SpareProcesses {
  readonly #program: () => URL;
  readonly #lost: () => void;
  #launch: Launch | undefined;
  #spares: ReplicaProcess[] = [];
  readonly #ends = new Set<Promise<unknown>>();

  /** @param program returns the module that the processes run. @param lost called when a spare has ended by itself. */
  constructor(program: () => URL, lost: () => void) {
    this.#program = program;
    this.#lost = lost;
  }

  /** Returns a process that is started so: a spare, or a new one. */
  take(launch: Launch): ReplicaProcess {
    const isFitting = isSameData(launch, this.#launch);
    const spare = isFitting ? this.#spares.shift() : undefined;
    return spare ?? new ReplicaProcess(this.#program(), launch);
  }

  /** Starts so many spares as are missing. Spares of other settings end. */
  keep(count: number, launch: Launch): void {
    if (!isSameData(launch, this.#launch)) this.end();
    this.#launch = launch;
    for (let missing = count - this.#spares.length; missing > 0; missing -= 1) this.#add(launch);
    for (const spare of this.#spares.splice(count)) spare.kill();
  }

  end(): void {
    for (const spare of this.#spares.splice(0)) spare.kill();
  }

  /** Resolves when no process is left that was a spare. */
  async untilGone(): Promise<void> {
    await Promise.all(this.#ends);
  }

  #add(launch: Launch): void {
    const spare = new ReplicaProcess(this.#program(), launch);
    this.#spares.push(spare);
    const end = spare.ended.then(() => {
      this.#ends.delete(end);
      const isLost = this.#spares.includes(spare);
      this.#spares = this.#spares.filter((each) => each !== spare);
      if (isLost) this.#lost();
    });
    this.#ends.add(end);
  }
}
