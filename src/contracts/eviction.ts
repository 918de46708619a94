/** Names of the policies by which a replica chooses the session to evict. */
export const EVICTIONS = ['lru', 'cost-aware'] as const;

export type EvictionName = (typeof EVICTIONS)[number];

/** A session that may be evicted, as a policy sees it. */
export interface EvictableSession {
  readonly key: string;
  /** Bytes of the model's files. */
  readonly bytes: number;
  /** Milliseconds that the load took, without what was prepared for later loads, too. */
  readonly loadMs: number;
}

/** Chooses the session to evict. Each replica has its own. It is pure, except for what `requested` told it. */
export interface Eviction {
  /** These requests came for the model, whether the replica has it or not. */
  requested(key: string, requests: number): void;
  /**
   * Returns the session to evict first.
   *
   * @param sessions least recently used first; at least one.
   */
  first<S extends EvictableSession>(sessions: readonly [S, ...S[]]): S;
}

/** Why a session left the cache. */
export type UnloadReason = 'evicted' | 'unloaded' | 'expired' | 'replaced' | 'shutdown';
