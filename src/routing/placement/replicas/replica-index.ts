import { DenseSet } from '../../../common/dense-set.js';
import type { ModelState, ReplicaView } from '../../../contracts/request-router.js';
import type { ReplicaCandidates } from '../../routers/by-model/model-router.js';

const NONE: readonly never[] = [];

/** A replica that may be indexed. */
export interface IndexedReplica extends ReplicaView {
  /** Whether a load of the model was ordered and has not ended. */
  isTrying(modelKey: string): boolean;
}

/** The running replicas, indexed for the questions of routers. A replica that leaves is gone from all lists at once. */
export class ReplicaIndex<R extends IndexedReplica> implements ReplicaCandidates<R> {
  /** Each replica with its models as the index knows them; they follow `replica.models` one change at a time. */
  readonly #entries = new Map<R, Map<string, ModelState>>();
  /** Replicas in which the model counts as loading, by model key; none is 0. */
  readonly #loads = new Map<string, number>();
  readonly #warm = new Map<string, DenseSet<R>>();
  /** Replicas by how many models they have. */
  readonly #byModelCount: DenseSet<R>[] = [];
  readonly #idle = new DenseSet<R>();
  readonly #free = new DenseSet<R>();
  #fewest = 0;

  get size(): number {
    return this.#entries.size;
  }

  get idle(): readonly R[] {
    return this.#idle.items;
  }

  get free(): readonly R[] {
    return this.#free.items;
  }

  get fewestModels(): readonly R[] {
    return this.#byModelCount[this.#fewest]?.items ?? NONE;
  }

  all(): IterableIterator<R> {
    return this.#entries.keys();
  }

  warm(modelKey: string): readonly R[] {
    return this.#warm.get(modelKey)?.items ?? NONE;
  }

  isLoading(modelKey: string): boolean {
    // A model that a handler's request names counts as loading, though the handler may not load it.
    return this.#loads.has(modelKey) && this.warm(modelKey).some((replica) => replica.isTrying(modelKey));
  }

  has(replica: R): boolean {
    return this.#entries.has(replica);
  }

  add(replica: R): void {
    this.#entries.set(replica, new Map());
    this.setOccupancy(replica, { isIdle: true, isFree: true });
    this.#putByCount(replica, 0);
    for (const modelKey of replica.models.keys()) this.modelChanged(replica, modelKey);
  }

  delete(replica: R): void {
    const models = this.#entries.get(replica);
    if (models === undefined) return;
    for (const [modelKey, state] of models) {
      this.#cool(replica, modelKey);
      if (state === 'loading') this.#countLoad(modelKey, -1);
    }
    this.#takeByCount(replica, models.size);
    this.#idle.delete(replica);
    this.#free.delete(replica);
    this.#entries.delete(replica);
    this.#findFewest();
  }

  setOccupancy(replica: R, { isIdle, isFree }: { isIdle: boolean; isFree: boolean }): void {
    if (!this.#entries.has(replica)) return;
    if (isIdle) this.#idle.add(replica);
    else this.#idle.remove(replica);
    if (isFree) this.#free.add(replica);
    else this.#free.remove(replica);
  }

  /** Call it after the model appeared in `replica.models`, was loaded, or disappeared. */
  modelChanged(replica: R, modelKey: string): void {
    const models = this.#entries.get(replica);
    if (models === undefined) return;
    const [before, state] = [models.get(modelKey), replica.models.get(modelKey)];
    if (state === before) return;
    if (before === 'loading') this.#countLoad(modelKey, -1);
    if (state === 'loading') this.#countLoad(modelKey, 1);
    const count = models.size;
    if (state === undefined) models.delete(modelKey);
    else models.set(modelKey, state);
    if (models.size === count) return;
    if (state === undefined) this.#cool(replica, modelKey);
    else this.#heat(replica, modelKey);
    this.#takeByCount(replica, count);
    this.#putByCount(replica, models.size);
    this.#findFewest();
  }

  #countLoad(modelKey: string, change: number): void {
    const loads = (this.#loads.get(modelKey) ?? 0) + change;
    if (loads === 0) this.#loads.delete(modelKey);
    else this.#loads.set(modelKey, loads);
  }

  #heat(replica: R, modelKey: string): void {
    const warm = this.#warm.get(modelKey) ?? new DenseSet<R>();
    warm.add(replica);
    this.#warm.set(modelKey, warm);
  }

  #cool(replica: R, modelKey: string): void {
    const warm = this.#warm.get(modelKey);
    warm?.delete(replica);
    if (warm?.items.length === 0) this.#warm.delete(modelKey);
  }

  #putByCount(replica: R, count: number): void {
    while (this.#byModelCount.length <= count) this.#byModelCount.push(new DenseSet());
    this.#byModelCount[count]?.add(replica);
    this.#fewest = Math.min(this.#fewest, count);
  }

  #takeByCount(replica: R, count: number): void {
    this.#byModelCount[count]?.delete(replica);
  }

  #findFewest(): void {
    const found = this.#byModelCount.findIndex((replicas) => replicas.items.length > 0);
    this.#fewest = found === -1 ? 0 : found;
  }
}

/** Yields the listed replicas that have the model; walks the shorter of the two lists. */
export function* warmAmong<R extends ReplicaView>(
  warm: readonly R[],
  listed: readonly R[],
  modelKey: string,
): IterableIterator<R> {
  if (warm.length <= listed.length) yield* warm;
  else for (const replica of listed) if (replica.models.has(modelKey)) yield replica;
}
