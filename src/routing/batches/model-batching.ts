import { type BatchingPolicy, whyNotBatched } from '../../contracts/batching.js';
import type { ModelMetadata } from '../../tensors/tensor.js';
import { LargeJoins } from './large-joins.js';

/** Whether the requests of one model are joined, by what is known so far. */
export class ModelBatching {
  /** Whether requests with large tensors are worth joining. */
  readonly largeJoins = new LargeJoins();
  #policy: BatchingPolicy;
  #metadata: ModelMetadata | undefined;
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
    if (this.#metadata !== undefined) this.setMetadata(this.#metadata);
  }

  setMetadata(metadata: ModelMetadata): void {
    this.#metadata = metadata;
    const { isEnabled, isOwn } = this.#policy;
    this.#isJoined = isEnabled && whyNotBatched(metadata, isOwn) === undefined;
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
