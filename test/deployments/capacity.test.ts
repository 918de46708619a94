import { expect, it } from 'vitest';
import { demandOf, overcommitReason } from '../../dist/deployments/capacity.js';

const MB = 2 ** 20;

it.each<[number, number, number, string | undefined]>([
  [2, 1, 10, undefined],
  [4, 2, 10, '4 replicas share 2 cores'],
  [4, 0, 10, undefined],
  [4, -2, 10, undefined],
  [2, 2, 600, '2 more replicas are expected to take 1200 MB, and 1000 MB of memory are left'],
])('%d replicas, %d of them new, of %d MB on 2 cores with 1000 MB: %s', (replicas, further, megabytes, expected) => {
  const demand = { replicas, further, bytesPerReplica: megabytes * MB };
  expect(overcommitReason(demand, { cores: 2, availableBytes: 1_000 * MB })).toBe(expected);
});

it('counts replicas that compute on the CPU, and what those there are hold on average', () => {
  const running = [{ counters: { bytes: 30 * MB } }, { counters: { bytes: 10 * MB } }];
  const onCpu = { options: { session: {} }, targetReplicas: 3, running };
  const onGpu = { options: { session: { executionProviders: ['cuda', 'cpu'] } }, targetReplicas: 5, running: [] };
  expect(demandOf([onCpu, onGpu], 1)).toEqual({ replicas: 3, further: 1, bytesPerReplica: 30 * MB });
});
