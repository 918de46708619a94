import { expect, it } from 'vitest';
import type { InfermuxError } from '../../dist/errors.js';
import { ReplicaPool } from '../../dist/replicas/replica-pool.js';
import { FakeClock } from '../support/fakes.js';
import { until } from '../support/until.js';

it('survives threads that cannot even be created, tries again with back-off, and says when there is no hope', async () => {
  const clock = new FakeClock();
  const delays: number[] = [];
  const outages: InfermuxError[] = [];
  const ignore = () => undefined;
  const pool = new ReplicaPool(
    {
      name: 'doomed',
      replicas: 1,
      maxModels: 3,
      maxModelBytes: -1,
      modelIdleTimeoutMs: -1,
      // What cannot be cloned makes the constructor of Worker throw, as a lack of memory or threads would.
      session: { onEvent: ignore },
      weights: 'private',
      weightStore: { directory: '', maxBytes: 1 },
    },
    { clock },
    {
      running: () => expect.fail('nothing can run'),
      left: ignore,
      stateChanged: ignore,
      modelChanged: ignore,
      event: ignore,
      restarting: (_, __, delayMs) => delays.push(delayMs),
      outage: (error) => outages.push(error),
    },
  );
  await expect(pool.start()).rejects.toMatchObject({
    code: 'REPLICA_FAILED',
    message: expect.stringContaining('could not be cloned'),
  });
  // More starts than there are lines of counters: each has given its line back.
  for (let restart = 1; restart <= 5; restart += 1) {
    clock.advance(delays.at(-1) === 0 ? 1 : (delays.at(-1) ?? 0));
    await until(() => delays.length === restart + 1);
  }
  expect(delays).toEqual([0, 0, 0, 1_000, 2_000, 4_000]);
  expect(outages.map(({ code, retryAfterMs }) => [code, retryAfterMs])).toEqual([
    ['REPLICA_FAILED', 1_000],
    ['REPLICA_FAILED', 2_000],
    ['REPLICA_FAILED', 4_000],
  ]);
  expect(outages.at(-1)?.message).toContain('could not be cloned');
  await pool.stop({ hurry: true });
  expect(clock.timers).toBe(0);
});
