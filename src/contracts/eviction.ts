/** How a replica decides which session leaves for another one. */
export const EVICTIONS = ['lru', 'cost-aware'] as const;

export type EvictionName = (typeof EVICTIONS)[number];

/** What a policy needs to know of a session that may leave. */
export interface EvictableSession {
  readonly key: string;
  /** Bytes of its model's files. */
  readonly bytes: number;
  /** Milliseconds that its load took. */
  readonly loadMs: number;
}

/** Decides which session is to leave. Pure but for what it was told; one for each replica. */
export interface Eviction {
  /** So many requests came for the model, whether it is there or not. */
  requested(key: string, requests: number): void;
  /** @param sessions least recently used first; at least one. */
  first<S extends EvictableSession>(sessions: readonly [S, ...S[]]): S;
}

/** Why a session left the cache. */
export type UnloadReason = 'evicted' | 'unloaded' | 'expired' | 'replaced' | 'shutdown';
