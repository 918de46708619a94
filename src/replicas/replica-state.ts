import { InfermuxError } from '../common/errors.js';

/** The state of a replica. `stopped` and `failed` are final; a new replica takes the place if one is still wanted. */
export type ReplicaState = 'starting' | 'running' | 'draining' | 'stopped' | 'failed';

const TRANSITIONS: Readonly<Record<ReplicaState, readonly ReplicaState[]>> = {
  starting: ['running', 'draining', 'failed'],
  running: ['draining', 'failed'],
  draining: ['stopped', 'failed'],
  stopped: [],
  failed: [],
};

export function isFinal(state: ReplicaState): boolean {
  return TRANSITIONS[state].length === 0;
}

/** @throws InfermuxError `INTERNAL` when a replica cannot go from `from` to `to`. */
export function checkTransition(from: ReplicaState, to: ReplicaState): void {
  if (!TRANSITIONS[from].includes(to)) {
    throw new InfermuxError('INTERNAL', `a replica cannot go from ${from} to ${to}`);
  }
}
