import type { InfermuxError } from '../common/errors.js';
import type { WeightPlacement } from '../contracts/model-reference.js';
import type { ReplicaEvent } from '../protocol/events.js';
import type { Replica } from './replica.js';
import type { ReplicaState } from './replica-state.js';

export interface ReplicaOptions {
  readonly id: string;
  readonly deployment: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly startTimeoutMs: number;
  /** Milliseconds unused after which a session is released; -1 for never. */
  readonly modelIdleTimeoutMs: number;
  /** Most sessions; -1 for no limit. */
  readonly maxModels: number;
  /** Most bytes of the sessions' model files; -1 for no limit. */
  readonly maxModelBytes: number;
  /** Whether a handler takes the requests, which then need not name a model. */
  readonly isHandler: boolean;
  /** Whether it takes short runs only. */
  readonly isExpress: boolean;
  /** Whether it is killed for a run that nobody waits for any more, when other requests wait. */
  readonly killsCancelled: boolean;
  /** For models that set none. */
  readonly weights: WeightPlacement;
  /** Settings of its sessions, for models that set none, key by key. */
  readonly session: Readonly<Record<string, unknown>>;
}

export interface ReplicaObserver {
  stateChanged(replica: Replica, state: ReplicaState): void;
  /** The thread died or could not start. All given work without an answer is about to be rejected. */
  failed(replica: Replica, error: InfermuxError): void;
  /** The model appeared in or disappeared from `models`, or went from loading to loaded. */
  modelChanged(replica: Replica, modelKey: string): void;
  event(replica: Replica, event: ReplicaEvent): void;
}
