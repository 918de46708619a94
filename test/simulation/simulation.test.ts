import { describe, expect, it } from 'vitest';
import { simulateCentralQueue } from '../../bench/simulation/central-queue.js';
import { simulateEngine } from '../../bench/simulation/engine-simulation.js';
import { simulateRayServe } from '../../bench/simulation/ray-serve.js';
import { NAMED, SETTINGS, type Setting } from '../../bench/simulation/setting.js';
import { ROUTER_NAMES } from '../../dist/contracts/request-router.js';

const ALONE: Setting = {
  ...NAMED,
  ...{ name: 'alone', replicas: 1, models: 1, sessions: 1, offered: 0.5, requests: 60_000 },
};
const named = (text: string) => SETTINGS.find(({ name }) => name === text) as Setting;

describe('the simulation', () => {
  it('is the same for the same seed, and another for another', () => {
    const run = (seed: number) => simulateEngine({ ...NAMED, requests: 3_000 }, 'power-of-two-choices', 'lru', seed);
    expect(run(1)).toEqual(run(1));
    expect(run(2)).not.toEqual(run(1));
  });

  it.each([
    ['exponential', 1 / (1 - 0.5)],
    ['constant', 1 + 0.5 / (2 * (1 - 0.5))],
  ] as const)('has the mean that queueing theory gives for one replica and %s times', (service, mean) => {
    const setting = { ...ALONE, service };
    const central = simulateCentralQueue(setting, 1).mean;
    expect(central / mean).toBeGreaterThan(0.95);
    expect(central / mean).toBeLessThan(1.05);
    // The dispatcher gives a replica its next request when it is done with the one before, as the central queue does.
    expect(simulateEngine(setting, 'power-of-two-choices', 'lru', 1).mean).toBeCloseTo(central, 1);
  });

  it.each(ROUTER_NAMES)(
    'router %s serves one model on replicas that all have it not much worse than the central queue',
    (router) => {
      const setting = { ...ALONE, replicas: 8, offered: 0.7, requests: 20_000 };
      const own = simulateEngine(setting, router, 'lru', 1);
      const central = simulateCentralQueue(setting, 1);
      expect(own.isSettled).toBe(true);
      // A key, here the only one, waits for its own replica for as long as a run takes.
      expect(own.mean / central.mean).toBeLessThan(router === 'consistent-hash' ? 3 : 1.3);
    },
  );

  it('settles with the default router where the rule of Ray Serve does not', () => {
    const setting = { ...NAMED, requests: 30_000 };
    const own = simulateEngine(setting, 'power-of-two-choices', 'lru', 1);
    expect(own).toMatchObject({ isSettled: true, isOverrun: false });
    expect(own.mean).toBeLessThan(2.5);
    expect(simulateRayServe(setting, 1).isSettled).toBe(false);
  });

  it('loads less with cost-aware eviction where models differ', () => {
    const setting = { ...named('200 models of all sizes'), requests: 20_000 };
    const [lru, costAware] = (['lru', 'cost-aware'] as const).map((eviction) =>
      simulateEngine(setting, 'power-of-two-choices', eviction, 1),
    );
    expect(costAware?.loadTime).toBeLessThan(0.85 * (lru?.loadTime ?? 0));
  });

  it('loses no request to replicas that crash, and goes on', () => {
    const outcome = simulateEngine(
      { ...named('crashing replicas'), requests: 20_000 },
      'power-of-two-choices',
      'lru',
      1,
    );
    expect(outcome).toMatchObject({ isSettled: true, lost: 0 });
    expect(outcome.loads).toBeGreaterThan(0);
  });
});
