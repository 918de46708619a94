import type { Clock } from '../../common/clock.js';
import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import type { SyncReport } from './repository-sync.js';

const LONGEST_BACK_OFF_MS = 64_000;
/** The pause while a model is unsettled in a directory that is not followed: half copied at the start, for instance. */
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
  /** Cancels the next look; undefined when none is planned. */
  #cancel: (() => void) | undefined;
  #failuresInRow = 0;
  /** Looks in a row that found nothing unsettled but what the system or the replicas gave no answer about. */
  #unansweredInRow = 0;
  #isLooking = false;
  /** Whether to look once more right after the look under way. */
  #isWanted = false;
  #isStopped = false;

  /** @param pollMs milliseconds between two looks; 0: it looks again only while a model is unsettled. */
  constructor(pollMs: number, look: () => Promise<SyncReport>, clock: Clock, observer: RepositoryFollowerObserver) {
    this.#pollMs = pollMs;
    this.#look = look;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** @param unsettled how many models were unsettled at the last look. */
  follow(unsettled: number): void {
    if (this.#pollMs === 0 && unsettled === 0 && this.#failuresInRow === 0) return;
    const usualMs = this.#pollMs === 0 ? UNSETTLED_MS : this.#pollMs;
    const doublings = this.#failuresInRow + (this.#pollMs === 0 ? this.#unansweredInRow : 0);
    this.#plan(Math.min(usualMs * 2 ** doublings, Math.max(usualMs, LONGEST_BACK_OFF_MS)));
  }

  /** Another look, or a change after one, has ended, with so many models unsettled. */
  seen(unsettled: number): void {
    if (unsettled > 0 && this.#cancel === undefined && !this.#isLooking) this.follow(unsettled);
  }

  /** Looks as soon as possible; once more after a look under way, which may have been too early. */
  soon(): void {
    if (this.#isLooking) this.#isWanted = true;
    else this.#plan(0);
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel?.();
  }

  #plan(delayMs: number): void {
    if (this.#isStopped) return;
    this.#cancel?.();
    this.#cancel = this.#clock.schedule(() => void this.#round(), delayMs);
  }

  async #round(): Promise<void> {
    this.#cancel = undefined;
    this.#isLooking = true;
    let unsettled: readonly string[] = [];
    try {
      const report = await this.#look();
      unsettled = report.unsettled;
      const failed = new Set(report.failed.map(({ id }) => id));
      const isUnanswered = unsettled.length > 0 && unsettled.every((id) => failed.has(id));
      this.#unansweredInRow = isUnanswered ? this.#unansweredInRow + 1 : 0;
      if (this.#failuresInRow > 0) this.#observer.readableAgain();
      this.#failuresInRow = 0;
    } catch (cause) {
      this.#failuresInRow += 1;
      if (!this.#isStopped) this.#observer.unreadable(toInfermuxError(cause), this.#failuresInRow);
    }
    this.#isLooking = false;
    if (this.#isWanted) this.#plan(0);
    else this.follow(unsettled.length);
    this.#isWanted = false;
  }
}
