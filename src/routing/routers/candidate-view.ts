import type { ModelState, ReplicaView, RoutingStats } from '../../contracts/request-router.js';
import type { Candidate } from '../placement/replicas/candidate.js';

/** A candidate as routers see it: always as it is now, and nothing of it can be changed. */
export class CandidateView implements ReplicaView {
  readonly #candidate: Candidate;
  readonly id: string;
  readonly deployment: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly models: ReadonlyMap<string, ModelState>;

  constructor(candidate: Candidate) {
    this.#candidate = candidate;
    this.id = candidate.id;
    this.deployment = candidate.deployment;
    this.labels = Object.freeze({ ...candidate.labels });
    this.models = new MapView(() => candidate.models);
    Object.freeze(this);
  }

  get ongoing(): number {
    return this.#candidate.ongoing;
  }

  get capacity(): number {
    return this.#candidate.capacity;
  }

  get freeBytes(): number {
    return this.#candidate.freeBytes;
  }

  get freeModels(): number {
    return this.#candidate.freeModels;
  }

  get expectedWorkMs(): number {
    return this.#candidate.expectedWorkMs;
  }

  get routingStats(): RoutingStats {
    return this.#candidate.routingStats;
  }
}

/** A read-only view of a map that may be replaced: it always shows the present one. */
class MapView<K, V> implements ReadonlyMap<K, V> {
  readonly #map: () => ReadonlyMap<K, V>;

  constructor(map: () => ReadonlyMap<K, V>) {
    this.#map = map;
  }

  get size(): number {
    return this.#map().size;
  }

  get(key: K): V | undefined {
    return this.#map().get(key);
  }

  has(key: K): boolean {
    return this.#map().has(key);
  }

  keys(): MapIterator<K> {
    return this.#map().keys();
  }

  values(): MapIterator<V> {
    return this.#map().values();
  }

  entries(): MapIterator<[K, V]> {
    return this.#map().entries();
  }

  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries();
  }

  forEach(callback: (value: V, key: K, map: ReadonlyMap<K, V>) => void): void {
    for (const [key, value] of this) callback(value, key, this);
  }
}
