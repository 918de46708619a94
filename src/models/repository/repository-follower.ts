import type { Clock } from '../../common/clock.js';
import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import type { SyncReport } from './repository-sync.js';

const LONGEST_BACK_OFF_MS = 64_000;
/** A model may be half copied at the start. Then even a directory that is not followed is looked at again. */
const UNSETTLED_MS = 1_000;

export interface RepositoryFollowerObserver {
  unreadable(error: InfermuxError, failuresInRow: number): void;
  readableAgain(): void;
}

/** Looks at a directory again and again, with growing pauses while it cannot be read. */
export class RepositoryFollower {
  readonly #pollMs: number;
  readonly #look: () => Promise<SyncReport>;
  readonly #clock: Clock;
  readonly #observer: RepositoryFollowerObserver;
  #cancel: (() => void) | undefined;
  #failuresInRow = 0;
  #isStopped = false;

  /** @param pollMs milliseconds between two looks; 0: it looks again only while a model is still being written. */
  constructor(pollMs: number, look: () => Promise<SyncReport>, clock: Clock, observer: RepositoryFollowerObserver) {
    this.#pollMs = pollMs;
    this.#look = look;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** @param unsettled how many models were still being written at the last look. */
  follow(unsettled: number): void {
    if (this.#isStopped || (this.#pollMs === 0 && unsettled === 0 && this.#failuresInRow === 0)) return;
    const usualMs = this.#pollMs === 0 ? UNSETTLED_MS : this.#pollMs;
    const delayMs = Math.min(usualMs * 2 ** this.#failuresInRow, Math.max(usualMs, LONGEST_BACK_OFF_MS));
    this.#cancel = this.#clock.schedule(() => void this.#round(), delayMs);
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }

  async #round(): Promise<void> {
    let unsettled = 0;
    try {
      unsettled = (await this.#look()).unsettled.length;
      if (this.#failuresInRow > 0) this.#observer.readableAgain();
      this.#failuresInRow = 0;
    } catch (cause) {
      this.#failuresInRow += 1;
      if (!this.#isStopped) this.#observer.unreadable(toInfermuxError(cause), this.#failuresInRow);
    }
    this.follow(unsettled);
  }
}
