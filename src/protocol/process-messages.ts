import type { ErrorRecord } from '../common/values/error-record.js';
import type { ReplicaRuntimeSettings } from './messages.js';

/** The first message to a replica's process. The others are those to a thread. */
export interface ProcessSettings {
  readonly settings: ReplicaRuntimeSettings;
}

/** What a replica's process says of an error that ends it, if it still can. The other messages are those of a thread. */
export interface DyingMessage {
  readonly dying: ErrorRecord;
}
