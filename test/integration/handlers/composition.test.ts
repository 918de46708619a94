import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type DeploymentOptions, type InferenceEngine } from '../../../dist/index.js';
import { models, outcome, requestsTo } from '../../support/engines/handlers-engine.js';
import { areThreads } from '../../support/isolation.js';
import { until } from '../../support/until.js';

const handler = new URL('../../support/concurrent-handler.mjs', import.meta.url);
let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options: Record<string, DeploymentOptions> = {}, replicas = 0): Promise<void> {
  const deployments = { app: { handler, ...options['app'] }, other: { handler, ...options['other'] } };
  engine = await createEngine({ models, replicas, deployments });
}

const x = { dims: [1, 4], data: Float32Array.of(3, 0, 0, 0) };

afterEach(() => engine?.destroy());

describe('what a handler runs in the engine', () => {
  it('is a model, a deployment or an endpoint', async () => {
    await start({}, 1);
    await engine.endpoints.set('pair', { traffic: { 'times-2': 1 } });
    expect(await ask({ do: 'nested', target: 'times-3', request: { x } })).toMatchObject({ y: { type: 'float32' } });
    expect(await ask({ do: 'nested', target: 'pair', request: { x } })).toMatchObject({ y: { dims: [1, 4] } });
    expect(await ask({ do: 'nested', target: 'other', request: { do: 'echo', x: 4 } })).toBe(4);
    expect(await ask({ do: 'nested', target: 'other/times-2', request: { do: 'signal' } })).toEqual([
      false,
      'times-2',
      'other-0',
    ]);
  });

  it.each([
    ['none', {}, undefined, 'MODEL_NOT_FOUND'],
    ['other', { do: 'throw', ms: 0, x: 1 }, undefined, 'INFERENCE_FAILED: the handler failed: as asked by 1'],
    ['other', { do: 'never' }, { timeoutMs: 20 }, 'DEADLINE_EXCEEDED'],
    ['other', { do: 'echo' }, { timeOutMs: 20 }, 'INVALID_ARGUMENT'],
    ['other', { do: 'echo' }, { deployment: 'gone' }, 'FAILED_PRECONDITION'],
  ])('fails like any request: %s, %o, %o', async (target, request, options, message) => {
    await start();
    expect(await outcome(ask({ do: 'nested', target, request, options }))).toContain(message);
  });

  it('must be something that can be cloned', async () => {
    await start();
    expect(await outcome(ask({ do: 'unclonable', target: 'other' }))).toContain('INVALID_ARGUMENT');
  });

  it.each([
    ['cancelled before', 'CANCELLED'],
    ['no signal', 'INVALID_ARGUMENT: runOptions.signal must be an AbortSignal, got 7'],
    ['no options', 'INVALID_ARGUMENT: runOptions must be a plain object, got 7'],
  ])('is refused by its own options: %s', async (what, message) => {
    await start();
    expect(await outcome(ask({ do: what, target: 'other' }))).toContain(message);
  });

  it.runIf(areThreads)('is not asked for again by a request whose own replica lives', async () => {
    await start();
    const times = new Int32Array(new SharedArrayBuffer(4));
    const request = { do: 'nested', target: 'other', request: { do: 'count and exit', times } };
    const outer = { do: 'nested', target: 'app', request };
    expect(await outcome(ask(outer))).toContain('REPLICA_FAILED');
    // Once more for the replica that it has ended, and no more for those that pass the error on.
    expect(times[0]).toBe(2);
  });

  it('has the deadline of the request that asks for it', async () => {
    await start();
    const late = outcome(ask({ do: 'nested', target: 'other', request: { do: 'never' } }, 'app', { timeoutMs: 50 }));
    expect(await late).toContain('DEADLINE_EXCEEDED');
    await until(() => engine.deployments.get('other').ongoing === 0);
  });

  it('is cancelled with the request that asks for it, and by its own signal', async () => {
    await start();
    const controller = new AbortController();
    const request = { do: 'nested', target: 'other', request: { do: 'never' } };
    const cancelled = outcome(ask(request, 'app', { signal: controller.signal }));
    await until(() => engine.deployments.get('other').ongoing === 1);
    controller.abort();
    expect(await cancelled).toContain('CANCELLED');
    await until(() => engine.deployments.get('other').ongoing === 0);
    expect(await ask({ do: 'cancel nested', target: 'other' })).toBe('CANCELLED');
    await until(() => engine.deployments.get('other').ongoing === 0);
  });

  it('does not outlive the request that asks for it', async () => {
    await start();
    expect(await ask({ do: 'leave nested', target: 'other' })).toBe('left');
    await until(() => engine.deployments.get('other').ongoing === 0);
    expect(engine.deployments.get('other').queued).toBe(0);
  });

  it('ends with an error at a depth of 16', async () => {
    await start();
    expect(await ask({ do: 'chain', to: ['app', 'other'], left: 15 })).toBe(15);
    const error = await outcome(ask({ do: 'chain', to: ['app', 'other'], left: 1e9 }));
    expect(error).toContain(
      'FAILED_PRECONDITION: requests of handlers are 16 deep within each other; is there a cycle?',
    );
    expect(error).toContain('app → app → other');
  });

  it.runIf(areThreads)('ends at a depth of 16 in shadows, too', async () => {
    await start();
    const batches = new URL('../../support/batch-handler.mjs', import.meta.url);
    await engine.deployments.create('answers', { handler: batches });
    await engine.endpoints.set('both', { traffic: { answers: 1 }, shadow: { app: 1 } });
    const times = new Int32Array(new SharedArrayBuffer(4));
    await ask({ do: 'chain', to: ['both'], left: 1e9, times });
    await until(() => engine.deployments.list().every(({ ongoing, queued }) => ongoing + queued === 0));
    expect(times[0]).toBe(16);
  });

  it.each([
    ['model', 'power-of-two-choices'],
    ['model', 'round-robin'],
    ['fifo', 'power-of-two-choices'],
  ] as const)(
    'never waits for ever, though all replicas wait for each other: order %s, router %s',
    async (order, router) => {
      const options = { maxOngoingRequests: 1, order, router };
      await start({ app: options, other: options });
      const answers = Array.from({ length: 40 }, (_, index) => {
        const to = index % 3 === 0 ? ['app', 'other'] : ['other', 'app', 'app'];
        return ask({ do: 'chain', to, left: index % 12 }, index % 2 === 0 ? 'app' : 'other');
      });
      expect(await Promise.all(answers)).toEqual(Array.from({ length: 40 }, (_, index) => index % 12));
    },
  );

  it('keeps to the bound of a deployment whose requests work', async () => {
    await start({ app: { maxOngoingRequests: 16 }, other: { maxOngoingRequests: 2 } });
    const request = { do: 'most', ms: 5 };
    const answers = Array.from({ length: 32 }, () => ask<number>({ do: 'nested', target: 'other', request }));
    expect(Math.max(...(await Promise.all(answers)))).toBe(2);
  });

  it('is finished when the engine closes', async () => {
    await start();
    const answer = ask({ do: 'chain', to: ['app', 'other'], left: 12, ms: 1 });
    await until(() => engine.deployments.get('other').ongoing + engine.deployments.get('app').ongoing > 2);
    await engine.close();
    expect(await answer).toBe(12);
  });

  it('runs once more elsewhere when its replica dies', async () => {
    await start();
    const error = await outcome(ask({ do: 'nested', target: 'other', request: { do: 'exit', ms: 0 } }));
    expect(error).toContain('REPLICA_FAILED');
    expect(await ask({ do: 'nested', target: 'other', request: { do: 'echo', x: 1 } })).toBe(1);
  });
});
