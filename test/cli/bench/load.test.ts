import { expect, it } from 'vitest';
import { Latencies, measured } from '../../../dist/cli/bench/load.js';

it('sorts as many latencies as were added, over more than one chunk', () => {
  const latencies = new Latencies();
  for (let count = 0; count < 150_000; count += 1) latencies.add((count * 7) % 150_000);
  const sorted = latencies.sorted();
  expect(latencies.count).toBe(150_000);
  expect(sorted).toHaveLength(150_000);
  expect(sorted.every((milliseconds, index) => milliseconds === index)).toBe(true);
});

it('tells percentiles of what was added', async () => {
  const { p50, p95, p99 } = await measured(async (latencies) => {
    for (let milliseconds = 100; milliseconds > 0; milliseconds -= 1) latencies.add(milliseconds);
  });
  expect({ p50, p95, p99 }).toEqual({ p50: 51, p95: 96, p99: 100 });
});
