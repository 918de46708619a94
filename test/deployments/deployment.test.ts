import { beforeEach, describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../dist/common/errors.js';
import type { DeploymentOptions } from '../../dist/deployments/config/deployment-options.js';
import { resolveDeployment } from '../../dist/deployments/config/resolve-deployment.js';
import { Deployment } from '../../dist/deployments/deployment.js';
import type { DeploymentQueue } from '../../dist/deployments/deployment-environment.js';
import { ReplicaMemory } from '../../dist/replicas/replica-memory.js';
import { replicaEntry } from '../../dist/replicas/threads/replica-entry.js';
import { FakeClock } from '../support/fakes/fake-clock.js';
import { until } from '../support/until.js';

let clock: FakeClock;
let delays: number[];
let outages: InfermuxError[];
let scales: string[];

const ignore = () => undefined;
const QUEUE: DeploymentQueue = {
  addReplica: () => expect.fail('nothing can run'),
  ...{
    removeReplica: ignore,
    modelChanged: ignore,
    declareOutage: ignore,
    outage: undefined,
    endOutage: ignore,
    configure: ignore,
    close: ignore,
  },
  ...{ destroy: ignore, untilIdle: async () => undefined, isInUse: () => false, isIdle: true, queued: 0 },
};

/** Its threads cannot even be created: what cannot be cloned makes the constructor of Worker throw, as a lack of memory would. */
function doomed(options: DeploymentOptions = {}): Deployment {
  const resolved = resolveDeployment('options', options);
  return new Deployment(
    'doomed',
    { ...resolved, session: { onEvent: ignore } as object },
    {
      queue: QUEUE,
      memory: new ReplicaMemory(16),
      pool: { clock, worker: replicaEntry() },
      random: () => 0.5,
      fitting: (_options, _from, to) => to,
      refusalOf: () => undefined,
      weightStore: { directory: '', maxBytes: 1 },
      observer: {
        running: () => expect.fail('nothing can run'),
        ...{ removed: ignore, event: ignore, stateChanged: ignore, log: ignore },
        handlerUsed: () => undefined,
        restarting: (_, __, delayMs) => delays.push(delayMs),
        outage: (error) => outages.push(error),
        scaled: (from, to) => scales.push(`${from} to ${to}`),
      },
    },
  );
}

beforeEach(() => {
  clock = new FakeClock();
  delays = [];
  outages = [];
  scales = [];
});

describe('threads that cannot even be created', () => {
  it('are tried again with back-off, and it is said when there is no hope', async () => {
    const deployment = doomed();
    const goal = deployment.start();
    await expect(deployment.untilStarted()).rejects.toMatchObject({
      code: 'REPLICA_FAILED',
      message: expect.stringContaining('could not be cloned'),
    });
    // At last more starts than there are lines of counters: each has given its line back.
    for (let restart = 4; restart <= 20; restart += 1) {
      await until(() => delays.length === restart);
      clock.advance(delays.at(-1) ?? 0);
    }
    expect(delays.slice(0, 6)).toEqual([0, 0, 0, 1_000, 2_000, 4_000]);
    expect(outages.slice(0, 3).map(({ code, retryAfterMs }) => [code, retryAfterMs])).toEqual([
      ['REPLICA_FAILED', 1_000],
      ['REPLICA_FAILED', 2_000],
      ['REPLICA_FAILED', 4_000],
    ]);
    expect(goal.status).toBe('failed');
    await deployment.stop({ hurry: true });
    expect(clock.timers).toBe(0);
  });

  it('make the goal fail with the reason, after three starts for each replica', async () => {
    const deployment = doomed({ replicas: 2 });
    const goal = deployment.start();
    const message = expect.stringMatching(
      /deployment doomed: 6 starts failed, and none succeeded: .*could not be cloned/,
    );
    await expect(goal.done).rejects.toMatchObject({ code: 'REPLICA_FAILED', retryable: false, message });
    expect([deployment.state, deployment.isReady]).toEqual(['unhealthy', false]);
    await deployment.stop({ hurry: true });
  });

  it('do not stand in the way of being deleted', async () => {
    const deployment = doomed();
    const first = deployment.start();
    const deleted = deployment.delete({ force: false });
    expect(await deleted.done).toBe('reached');
    expect(['failed', 'superseded']).toContain(first.status);
    expect(deployment.places).toEqual([]);
    expect(clock.timers).toBe(0);
  });
});

describe('a deployment that may have no replica', () => {
  it('has none, and is ready, until something is asked', async () => {
    const deployment = doomed({ autoscaling: { minReplicas: 0, maxReplicas: 2 } });
    expect(await deployment.start().done).toBe('reached');
    expect([deployment.targetReplicas, deployment.isReady, deployment.isEmpty]).toEqual([0, true, false]);
    deployment.requestArrived();
    expect([deployment.targetReplicas, deployment.isReady]).toEqual([1, false]);
    expect(scales).toEqual(['0 to 1']);
    await deployment.stop({ hurry: true });
  });

  it('stays without where that is what it is to have', async () => {
    const deployment = doomed({ replicas: 0 });
    expect(await deployment.start().done).toBe('reached');
    deployment.requestArrived();
    expect([deployment.targetReplicas, deployment.isEmpty]).toEqual([0, true]);
    await deployment.stop({ hurry: true });
  });
});

it('other bounds of autoscaling leave the number as it is, as far as they allow; one that is named is taken', async () => {
  const deployment = doomed({ autoscaling: { minReplicas: 0, maxReplicas: 8 } });
  deployment.start();
  const autoscaling = (minReplicas: number, maxReplicas: number) => ({ autoscaling: { minReplicas, maxReplicas } });
  const numbers = [
    autoscaling(3, 8),
    autoscaling(1, 8),
    autoscaling(1, 2),
    { ...autoscaling(1, 2), replicas: 2 },
    { ...autoscaling(1, 2), replicas: 1 },
    { replicas: 0 },
  ].map((options) => {
    deployment.update(resolveDeployment('options', options));
    return deployment.targetReplicas;
  });
  expect(numbers).toEqual([3, 3, 2, 2, 1, 0]);
  await deployment.stop({ hurry: true });
});
