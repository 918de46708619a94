import { DenseSet } from '../../../common/dense-set.js';
import type { ReplicaView } from '../../../contracts/request-router.js';
import type { ReplicaCandidates } from '../../routers/by-model/model-router.js';

const NONE: readonly never[] = [];

/** The running replicas, indexed for the questions of routers. A replica that leaves is gone from all lists at once. */
export class ReplicaIndex<R extends ReplicaView> implements ReplicaCandidates<R> {
  /** Each replica with its models as the index knows them; they follow `replica.models` one change at a time. */
  readonly #entries = new Map<R, Set<string>>();
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

  has(replica: R): boolean {
    return this.#entries.has(replica);
  }

  add(replica: R): void {
    this.#entries.set(replica, new Set());
    this.setOccupancy(replica, { isIdle: true, isFree: true });
    this.#putByCount(replica, 0);
    for (const modelKey of replica.models.keys()) this.modelChanged(replica, modelKey);
  }

  delete(replica: R): void {
    const models = this.#entries.get(replica);
    if (models === undefined) return;
    for (const modelKey of models) this.#cool(replica, modelKey);
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

  /** Call it after the model appeared in or disappeared from `replica.models`. */
  modelChanged(replica: R, modelKey: string): void {
    const models = this.#entries.get(replica);
    if (models === undefined) return;
    const isWarm = replica.models.has(modelKey);
    if (isWarm === models.has(modelKey)) return;
    this.#takeByCount(replica, models.size);
    if (isWarm) {
      models.add(modelKey);
      this.#heat(replica, modelKey);
    } else {
      models.delete(modelKey);
      this.#cool(replica, modelKey);
    }
    this.#putByCount(replica, models.size);
    this.#findFewest();
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
