import type { Clock } from '../../common/clock.js';
import type { InfermuxError } from '../../common/errors.js';
import type { LoadBackoff } from '../placement/load-backoff.js';
import type { Spill } from '../routers/by-model/model-router.js';
import { type Eligibility, eligibilityOf } from './eligibility.js';
import type { ModelQueue } from './model-queue.js';
import type { WaitingModels } from './waiting-models.js';

export interface QueueEligibilityObserver {
  /** The queue has waited long enough to be placed again. */
  due(queue: ModelQueue): void;
  /** Whether the router in force goes by requests. */
  goesByRequest(): boolean;
  /** When the queue's model may be worth another load although replicas have it. */
  spillOf(queue: ModelQueue): Spill;
  /** No replica can serve the queue's requests for now. */
  refused(queue: ModelQueue, error: InfermuxError): void;
}

interface WarmReplicas {
  readonly size: number;
  warm(modelKey: string): readonly unknown[];
}

/** Keeps each waiting queue where free slots find it, and sets a timer for when time changes its eligibility. */
export class QueueEligibility {
  readonly #waiting: WaitingModels;
  readonly #replicas: WarmReplicas;
  readonly #loadBackoff: LoadBackoff;
  readonly #clock: Clock;
  readonly #observer: QueueEligibilityObserver;

  constructor(
    waiting: WaitingModels,
    replicas: WarmReplicas,
    loadBackoff: LoadBackoff,
    clock: Clock,
    observer: QueueEligibilityObserver,
  ) {
    this.#waiting = waiting;
    this.#replicas = replicas;
    this.#loadBackoff = loadBackoff;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** Call it when the queue's requests or `gathersUntil`, or the replicas changed; `gathersUntil` must be up to date. */
  update(queue: ModelQueue): Eligibility | undefined {
    const refusal = this.#loadBackoff.refusal(queue.modelKey);
    if (refusal !== undefined) this.#observer.refused(queue, refusal);
    if (queue.head === undefined) {
      this.#waiting.delete(queue);
      this.#stopTimer(queue);
      return undefined;
    }
    const { eligibility, changesInMs } = eligibilityOf({
      gatherMs: queue.gathersUntil === undefined ? undefined : queue.gathersUntil - this.#clock.now(),
      warmReplicas: this.#replicas.warm(queue.modelKey).length,
      goesByRequest: this.#observer.goesByRequest(),
      replicas: this.#replicas.size,
      spillOf: () => this.#observer.spillOf(queue),
      waitedMs: queue.waitedMs(this.#clock.now()),
      expectedLoadMs: queue.times.loadMs,
      mayLoadInMs: this.#loadBackoff.mayLoadInMs(queue.modelKey),
      isOnTrial: !queue.hasLoaded && this.#loadBackoff.isOnTrial(queue.modelKey),
    });
    this.#waiting.put(queue, eligibility);
    if (changesInMs === undefined) this.#stopTimer(queue);
    else this.#startTimer(queue, changesInMs);
    return eligibility;
  }

  #startTimer(queue: ModelQueue, delayMs: number): void {
    const at = this.#clock.now() + delayMs;
    // A timer that rings too early has the queue placed again, and that starts the next timer.
    if (queue.timer !== undefined && queue.timer.at <= at) return;
    this.#stopTimer(queue);
    const ring = () => {
      queue.timer = undefined;
      this.#observer.due(queue);
    };
    queue.timer = { at, cancel: this.#clock.schedule(ring, delayMs) };
  }

  #stopTimer(queue: ModelQueue): void {
    queue.timer?.cancel();
    queue.timer = undefined;
  }
}
