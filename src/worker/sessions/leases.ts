import type { Session } from './session.js';

/** A session in use; it is not released before the lease is given back. */
export interface Lease {
  readonly session: Session;
  /** Milliseconds that this caller waited for a load; 0 for a session that was loaded already. */
  readonly loadMs: number;
  /** Call it once. */
  giveBack(): void;
}

/** A lease of a caller that may ask for further models before it gives this one back. */
export interface HeldLease {
  readonly session: Session;
  /** Call it once. Resolves when the bounds hold again, except for sessions that others hold. */
  giveBack(): Promise<void>;
}
