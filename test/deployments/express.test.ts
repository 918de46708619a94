import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions } from '../../dist/deployments/config/deployment-options.js';
import { resolveDeployment } from '../../dist/deployments/config/resolve-deployment.js';
import { Deployment } from '../../dist/deployments/deployment.js';
import type { DeploymentQueue } from '../../dist/deployments/deployment-environment.js';
import { reportOf } from '../../dist/deployments/deployment-report.js';
import { ReplicaMemory } from '../../dist/replicas/replica-memory.js';
import { replicaEntry } from '../../dist/replicas/threads/replica-entry.js';
import { FakeClock } from '../support/fakes/fake-clock.js';
import { until } from '../support/until.js';

const ignore = () => undefined;
const resolve = (options: DeploymentOptions) => resolveDeployment('options', { replicas: 1, ...options });

let clock: FakeClock;
let deployment: Deployment;
/** What the queue and the observer are told, in order. */
let story: string[];

/** Starts a deployment with real threads, and time that stands still. */
async function start(options: DeploymentOptions = {}, lines = 16, itsClock = new FakeClock()): Promise<void> {
  clock = itsClock;
  story = [];
  const queue: DeploymentQueue = {
    addReplica: ({ id }) => story.push(`${id} takes requests`),
    removeReplica: ({ id }, crash) => story.push(`${id} takes no requests${crash === undefined ? '' : ', it failed'}`),
    declareOutage: () => story.push('outage'),
    ...{
      modelChanged: ignore,
      outage: undefined,
      endOutage: ignore,
      configure: ignore,
      close: ignore,
      destroy: ignore,
    },
    ...{ untilIdle: async () => undefined, isInUse: () => false, isIdle: true, queued: 0 },
  };
  deployment = new Deployment('d', resolve(options), {
    queue,
    memory: new ReplicaMemory(lines),
    pool: { clock, worker: replicaEntry() },
    random: () => 0.5,
    fitting: (_options, _from, to) => to,
    refusalOf: () => undefined,
    weightStore: { directory: '', maxBytes: 1 },
    observer: {
      ...{ running: ignore, removed: ignore, event: ignore, stateChanged: ignore, handlerUsed: ignore },
      restarting: (id, _, delayMs) => story.push(`${id} starts again in ${delayMs} ms`),
      outage: ignore,
      scaled: ignore,
      log: (_, { replica, reason }, message) => story.push([replica, message, reason ?? ''].join(' ').trim()),
    },
  });
  await deployment.start().done;
}

const express = () => deployment.express.running;
const isThere = () => express() !== undefined;
const isGone = () => deployment.express.place === undefined;

async function startWithExpress(options?: DeploymentOptions): Promise<void> {
  await start(options);
  deployment.express.need(true);
  await until(isThere);
  story = [];
}

afterEach(async () => {
  clock.runDeferred();
  await deployment.stop({ hurry: true });
  expect(deployment.express.place).toBeUndefined();
  expect(clock.timers).toBe(0);
});

describe('an express replica', () => {
  it('comes beside the replicas with their settings when it is needed, and goes when it is not', async () => {
    await start({ labels: [{ zone: 'a' }, { zone: 'b' }], maxModelsPerReplica: 7 });
    const { goal } = deployment;
    story = [];
    deployment.express.need(true);
    await until(isThere);
    expect(express()).toMatchObject({ id: 'd-express', isExpress: true, labels: { zone: 'b' }, freeModels: 7 });
    deployment.express.need(false);
    await until(isGone);
    expect(story).toEqual([
      'd-express short runs wait behind long ones: an express replica is started',
      'd-express takes requests',
      'd-express the express replica ends not needed',
      'd-express takes no requests',
    ]);
    expect(deployment.goal).toBe(goal);
  });

  it('is not started or stopped amid the decision of the queue that needs it', async () => {
    await start({}, 16, new FakeClock({ defers: true }));
    deployment.express.need(true);
    expect(isGone()).toBe(true);
    clock.runDeferred();
    await until(isThere);
    deployment.express.need(false);
    expect(isThere()).toBe(true);
  });

  it('is none of the replicas of the target', async () => {
    await startWithExpress();
    expect(deployment.places.map(({ id }) => id)).toEqual(['d-0']);
    expect(reportOf(deployment)).toMatchObject({
      ...{ state: 'healthy', ready: true, targetReplicas: 1, runningReplicas: 1, express: true },
      goal: { status: 'reached' },
      options: { express: 'auto' },
    });
    expect(await deployment.update(resolve({ replicas: 2 })).done).toBe('reached');
    expect(deployment.running.map(({ id }) => id)).toEqual(['d-0', 'd-1']);
    expect(await deployment.update(resolve({ replicas: 1 })).done).toBe('reached');
    expect([deployment.running.length, isThere()]).toEqual([1, true]);
  });

  it('adds its requests to those that autoscaling counts, and does not itself count as a replica', async () => {
    const autoscaling = { maxReplicas: 2, targetOngoingRequests: 1, upscaleDelayMs: 0, lookBackMs: 1 };
    await startWithExpress({ autoscaling });
    express()?.counters.dispatchGiven(2);
    expect(reportOf(deployment).ongoing).toBe(2);
    clock.advance(1_000);
    expect(deployment.targetReplicas).toBe(2);
    await until(() => deployment.running.length === 2);
    expect(isThere()).toBe(true);
    express()?.counters.dispatchDone(2, 0);
  });

  it('is replaced by one with the new settings in a rolling update', async () => {
    await startWithExpress();
    const before = express();
    expect(await deployment.update(resolve({ session: { enableMemPattern: false } })).done).toBe('reached');
    await until(() => isThere() && express() !== before);
    expect(deployment.express.place?.settings.session).toEqual({ enableMemPattern: false });
    expect(story).toContain('d-express the express replica ends other settings');
    expect(story.indexOf('d-express takes no requests')).toBeLessThan(story.lastIndexOf('d-express takes requests'));
  });

  it('starts again with growing pauses when it fails, and the deployment stays well', async () => {
    await startWithExpress();
    for (let failure = 1; failure <= 4; failure += 1) {
      const failed = express();
      failed?.abandon(new Error('gone'));
      expect([deployment.state, deployment.isReady, deployment.goal.status]).toEqual(['healthy', true, 'reached']);
      if (failure === 4) clock.advance(1_000);
      await until(() => isThere() && express() !== failed);
    }
    expect(story.filter((line) => line.includes('again'))).toEqual(
      [0, 0, 0, 1_000].map((pause) => `d-express starts again in ${pause} ms`),
    );
    expect(story).toContain('d-express takes no requests, it failed');
    expect(deployment.express.place?.restarts).toBe(4);
    expect(deployment.lastFailure).toBeUndefined();
  });

  it('that cannot start is tried again, and the deployment stays well', async () => {
    // The one line of counters is taken.
    await start({}, 1);
    story = [];
    deployment.express.need(true);
    await until(() => story.length === 5);
    clock.advance(1_000);
    expect(story.slice(1)).toEqual([0, 0, 0, 1_000, 2_000].map((pause) => `d-express starts again in ${pause} ms`));
    expect(reportOf(deployment)).toMatchObject({ state: 'healthy', ready: true, express: false });
    expect(deployment.goal.status).toBe('reached');
    deployment.express.need(false);
    expect(isGone()).toBe(true);
  });

  it('does not make a deployment ready that has no other replica, and does not start there', async () => {
    await startWithExpress();
    for (let failure = 1; failure <= 4; failure += 1) {
      await until(() => deployment.running.length === 1);
      deployment.running[0]?.abandon(new Error('gone'));
    }
    expect([deployment.isReady, deployment.state, isThere()]).toEqual([false, 'unhealthy', true]);
    express()?.abandon(new Error('gone too'));
    expect(express()).toBeUndefined();
    clock.advance(999);
    expect(deployment.express.place?.replica?.state).toBe('failed');
    clock.advance(1);
    await until(() => deployment.running.length === 1 && isThere());
  });

  it('ends when the deployment is to have no replica, and comes again with the first one', async () => {
    await startWithExpress();
    expect(await deployment.update(resolve({ replicas: 0 })).done).toBe('reached');
    await until(isGone);
    expect(story).toContain('d-express the express replica ends no replicas');
    deployment.update(resolve({ replicas: 1 }));
    await until(isThere);
    expect(deployment.running).toHaveLength(1);
  });

  it('ends when it is switched off, and comes again when it is not, while the replicas go on', async () => {
    await startWithExpress();
    const { running } = deployment;
    expect(await deployment.update(resolve({ express: false })).done).toBe('reached');
    await until(isGone);
    expect(story).toContain('d-express the express replica ends switched off');
    expect(await deployment.update(resolve({ express: 'auto' })).done).toBe('reached');
    await until(isThere);
    expect(deployment.running).toEqual(running);
  });

  it('ends with the deployment', async () => {
    await startWithExpress();
    expect(await deployment.delete({ force: false }).done).toBe('reached');
    expect([isGone(), deployment.places]).toEqual([true, []]);
    await deployment.untilGone();
    deployment.express.need(false);
    deployment.express.need(true);
    expect(isGone()).toBe(true);
  });

  it('that does not answer its health checks is replaced', async () => {
    await startWithExpress({ healthCheck: { periodMs: 10, timeoutMs: 10, failures: 1 } });
    const sick = express();
    // Both times pass before a thread can answer.
    clock.advance(20);
    await until(() => isThere() && express() !== sick);
    expect(story).toContain('d-express takes no requests, it failed');
  });
});
