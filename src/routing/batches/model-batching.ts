import type { LatencyEstimate } from '../../common/estimates/latency-fit.js';
import { type BatchingPolicy, mostRowsOf, whyNotBatched } from '../../contracts/batching.js';
import type { ModelMetadata } from '../../tensors/tensor.js';
import { LargeJoins } from './large-joins.js';

/** Whether the requests of one model are joined, by what is known so far. */
export class ModelBatching {
  /** Whether requests with large tensors are worth joining. */
  readonly largeJoins = new LargeJoins();
  #policy: BatchingPolicy;
  #metadata: ModelMetadata | undefined;
  /** What a handler takes in one call, if a handler answers the requests. */
  #handled: 'requests' | 'batches' | undefined;
  #isJoined = false;
  #isSwitchedOff = false;
  #isProven = false;

  constructor(policy: BatchingPolicy) {
    this.#policy = policy;
  }

  /** False also while the model's inputs and outputs are unknown. */
  get isJoined(): boolean {
    return this.#isJoined && !this.#isSwitchedOff;
  }

  /** Whether a request of so many rows is joined with others like it. @param apartBytes of its large tensors. */
  joins(rows: number, apartBytes: number): boolean {
    return this.isJoined && rows > 0 && (apartBytes === 0 || this.largeJoins.isWorthIt(apartBytes));
  }

  get maxSize(): number {
    return this.#policy.maxSize;
  }

  get targetLatencyMs(): number | undefined {
    return this.#policy.targetLatencyMs;
  }

  /** Whether requests ever wait for company. */
  get mayGather(): boolean {
    return this.#policy.maxWaitMs > 0;
  }

  /** Milliseconds that a request may wait for company. */
  get maxWaitMs(): number {
    return this.isJoined ? this.#policy.maxWaitMs : 0;
  }

  /** Whether batches have to be compared with single runs. */
  get needsProof(): boolean {
    return this.#policy.verify && !this.#isProven;
  }

  /** Takes a new policy. A proof and a switch-off outlast it. */
  configure(policy: BatchingPolicy): void {
    this.#policy = policy;
    this.#decide();
  }

  setMetadata(metadata: ModelMetadata): void {
    this.#metadata = metadata;
    this.#decide();
  }

  /** The requests are a handler's. @param takes what the handler takes in one call. */
  setHandled(takes: 'requests' | 'batches'): void {
    this.#handled = takes;
    this.#decide();
  }

  #decide(): void {
    const { isEnabled, isOwn } = this.#policy;
    if (this.#handled !== undefined) this.#isJoined = isEnabled && this.#handled === 'batches';
    else if (this.#metadata !== undefined)
      this.#isJoined = isEnabled && whyNotBatched(this.#metadata, isOwn) === undefined;
  }

  /**
   * Returns the most rows of a batch.
   *
   * @param estimate of the calls, if there is one. @param batchMs milliseconds that a batch may take.
   */
  mostRows(estimate: LatencyEstimate | undefined, batchMs: number): number {
    // A handler's batches are as large as its user says, if no time is said.
    if (this.#handled !== undefined && this.targetLatencyMs === undefined) return this.maxSize;
    return mostRowsOf(this.#policy, estimate, batchMs);
  }

  prove(): void {
    this.#isProven = true;
  }

  /** @returns false when batching was already off. */
  switchOff(): boolean {
    const wasOn = !this.#isSwitchedOff;
    this.#isSwitchedOff = true;
    return wasOn;
  }
}
