import type { Clock } from '../../common/clock.js';
import { fullBatchRows } from '../batches/take-dispatch.js';
import { rowsOf } from '../pending-request.js';
import type { ModelQueue } from './model-queue.js';

/** Decides how long the requests of a queue wait: for company, or for their turn with a session. */
export class Gathering {
  readonly #clock: Clock;
  readonly #untilTurn: (queue: ModelQueue) => number | undefined;
  #isStopped = false;

  /** @param untilTurn clock time until which the queue's requests wait for their turn; undefined: they do not. */
  constructor(clock: Clock, untilTurn: (queue: ModelQueue) => number | undefined) {
    this.#clock = clock;
    this.#untilTurn = untilTurn;
  }

  /** From now on no request waits for company. */
  stop(): void {
    this.#isStopped = true;
  }

  /**
   * Sets the queue's `gathersUntil`. Call it when the queue's requests changed, before they are placed.
   *
   * @param maxOngoing most requests that a replica may have at once. Default: no limit.
   */
  update(queue: ModelQueue, maxOngoing = Number.POSITIVE_INFINITY): void {
    queue.gathersUntil = this.#untilOf(queue, maxOngoing) ?? this.#untilTurn(queue);
  }

  #untilOf(queue: ModelQueue, maxOngoing: number): number | undefined {
    const { head, batching } = queue;
    if (batching.maxWaitMs === 0 || this.#isStopped) return undefined;
    // A request that runs alone has no company to wait for.
    if (head === undefined || rowsOf(head) === 0) return undefined;
    if (queue.rows >= Math.min(fullBatchRows(queue), maxOngoing)) return undefined;
    const until = queue.patientUntil(batching.maxWaitMs);
    return until > this.#clock.now() ? until : undefined;
  }
}
