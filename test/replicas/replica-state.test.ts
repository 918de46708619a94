import { expect, it } from 'vitest';
import { checkTransition, isFinal, type ReplicaState } from '../../dist/replicas/replica-state.js';
import { restartDelayMs } from '../../dist/replicas/restart-backoff.js';

const STATES: readonly ReplicaState[] = ['starting', 'running', 'draining', 'stopped', 'failed'];

const isLegal = (from: ReplicaState, to: ReplicaState): boolean => {
  try {
    checkTransition(from, to);
    return true;
  } catch {
    return false;
  }
};

it('lets a replica go forward only, and fail from anywhere but the end', () => {
  const legal = STATES.flatMap((from) => STATES.filter((to) => isLegal(from, to)).map((to) => `${from} ${to}`));
  expect(legal).toEqual([
    'starting running',
    'starting draining',
    'starting failed',
    'running draining',
    'running failed',
    'draining stopped',
    'draining failed',
  ]);
  expect(STATES.filter(isFinal)).toEqual(['stopped', 'failed']);
});

it('restarts three times at once, then after 1 s, doubling up to 64 s', () => {
  expect([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 100].map(restartDelayMs)).toEqual([
    0, 0, 0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 64_000, 64_000,
  ]);
});
