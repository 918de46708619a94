import type { ReplicaRuntimeSettings } from '../../dist/protocol/messages.js';

/** Settings of a replica that loads nothing. */
export const RUNTIME_SETTINGS: ReplicaRuntimeSettings = {
  replica: 'r0',
  eviction: 'lru',
  maxModels: 1,
  maxModelBytes: -1,
  modelIdleTimeoutMs: -1,
  session: {},
  device: undefined,
  handler: undefined,
  userConfig: undefined,
  handlerTimeouts: { loadModelMs: 1, disposeMs: 1, reconfigureMs: 1 },
  isExpress: false,
  weights: 'private',
  weightStore: { directory: '', maxBytes: 1 },
};
