import { describe, expect, it } from 'vitest';
import { simulateBurst } from '../../bench/simulation/burst.js';
import { documentedRouter } from '../support/documented-router.js';

describe('a burst of 60 for a new model on four full replicas', () => {
  it.each([
    'power-of-two-choices',
    'least-loaded',
    'expected-completion',
    'throughput-aware',
    'the documented one',
  ] as const)('makes at most two copies and evicts at most two models, with router %s', async (name) => {
    const outcome = simulateBurst(name === 'the documented one' ? await documentedRouter() : name);
    expect(outcome.answered).toBe(60);
    expect(outcome.copies).toBeGreaterThan(0);
    expect(outcome.copies).toBeLessThanOrEqual(2);
    expect(outcome.evictions).toBeLessThanOrEqual(2);
  });

  it('goes wherever a replica is idle, with a router that decides that itself', async () => {
    const own = await documentedRouter();
    const outcome = simulateBurst({ spill: 'router', chooseReplicas: (...given) => own.chooseReplicas(...given) });
    expect(outcome).toEqual({ copies: 4, evictions: 4, answered: 60 });
  });
});
