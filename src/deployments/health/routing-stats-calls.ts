import { type Clock, settlesWithin } from '../../common/clock.js';
import { messageOf } from '../../common/errors.js';

export interface RoutingStatsSettings {
  readonly periodMs: number;
  readonly timeoutMs: number;
}

/** A running replica whose handler tells how it fares. */
export interface RecordingReplica {
  /** @param isLate asked when the answer comes: then it does not count any more. Rejects with what the handler threw. */
  recordRoutingStats(isLate: () => boolean): Promise<void>;
}

/** So much of the period more or less, so that replicas that began together do not go on together. */
const JITTER = 0.1;

/** Asks replicas again and again how they fare. What fails or comes late is told, and the last answer goes on counting. */
export class RoutingStatsCalls<R extends RecordingReplica> {
  readonly #settings: () => RoutingStatsSettings;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #failed: (replica: R, reason: string) => void;
  /** What ends the calls of each. */
  readonly #watched = new Map<R, () => void>();

  /**
   * @param settings as they are at that moment.
   * @param random uniform in [0, 1).
   */
  constructor(
    settings: () => RoutingStatsSettings,
    clock: Clock,
    random: () => number,
    failed: (replica: R, reason: string) => void,
  ) {
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
    this.#failed = failed;
  }

  watch(replica: R): void {
    let cancel: () => void = () => undefined;
    let isOver = false;
    const callLater = () => {
      const { periodMs } = this.#settings();
      const jitter = JITTER * (2 * this.#random() - 1);
      cancel = this.#clock.schedule(() => void call(), periodMs * (1 + jitter));
    };
    const call = async () => {
      await this.#call(replica, (reason) => {
        if (!isOver) this.#failed(replica, reason);
      });
      if (!isOver) callLater();
    };
    this.#watched.set(replica, () => {
      isOver = true;
      cancel();
    });
    callLater();
  }

  forget(replica: R): void {
    this.#watched.get(replica)?.();
    this.#watched.delete(replica);
  }

  /** Resolves when it is answered, however late: calls that nobody answers are not to pile up. */
  async #call(replica: R, failed: (reason: string) => void): Promise<void> {
    const { timeoutMs } = this.#settings();
    let isLate = false;
    try {
      const recorded = replica.recordRoutingStats(() => isLate);
      if (await settlesWithin(this.#clock, recorded, timeoutMs)) return;
      isLate = true;
      failed(`no answer within ${timeoutMs} ms`);
      await recorded.catch(() => undefined);
    } catch (cause) {
      failed(messageOf(cause));
    }
  }
}
