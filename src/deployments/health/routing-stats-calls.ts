import { type Clock, settlesWithin } from '../../common/clock.js';
import { messageOf } from '../../common/errors.js';

export interface RoutingStatsSettings {
  readonly periodMs: number;
  readonly timeoutMs: number;
}

/** A running replica whose handler records routing statistics. */
export interface RecordingReplica {
  /**
   * Asks the handler for its statistics. Rejects with the handler's error.
   *
   * @param isLate called when the answer comes; true: the answer is ignored.
   */
  recordRoutingStats(isLate: () => boolean): Promise<void>;
}

/** Share of the period by which it varies, so that replicas that start together drift apart. */
const JITTER = 0.1;

/**
 * Asks handlers for routing statistics at regular times. A failed or late call is reported; the last answer stays
 * valid.
 */
export class RoutingStatsCalls<R extends RecordingReplica> {
  readonly #settings: () => RoutingStatsSettings;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #failed: (replica: R, reason: string) => void;
  /** Ends the calls of each replica. */
  readonly #watched = new Map<R, () => void>();

  /**
   * @param settings the settings in force, read before each call.
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

  /** Resolves with the answer, however late, so that unanswered calls do not pile up. */
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
