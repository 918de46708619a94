import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions, InferenceEngine } from '../../../dist/index.js';
import { outcome, requestsTo, startHandler } from '../../support/engines/handlers-engine.js';
import { areThreads } from '../../support/isolation.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options?: DeploymentOptions): Promise<void> {
  engine = await startHandler(options);
}

afterEach(() => engine?.destroy());

describe('a request that nobody wants any more', () => {
  it('is aborted in the handler, and the others go on', async () => {
    await start();
    const cancel = new AbortController();
    const cancelled = outcome(ask({ do: 'wait' }, 'app', { signal: cancel.signal }));
    const late = outcome(ask({ do: 'wait' }, 'app', { timeoutMs: 30 }));
    await until(() => engine.deployments.get('app').ongoing > 0);
    cancel.abort();
    expect(await cancelled).toContain('CANCELLED');
    expect(await late).toContain('DEADLINE_EXCEEDED');
    expect(await ask({ do: 'echo', value: 'next' })).toBe('next');
    await until(() => engine.deployments.get('app').ongoing === 0);
  });

  it('does not hold up those behind it, though its handler goes on for ever', async () => {
    await start();
    for (let round = 0; round < 60; round += 1) await ask({ do: 'echo', value: round });
    const hung = outcome(ask({ do: 'wait', isStubborn: true }, 'app', { timeoutMs: 50 }));
    const behind = Array.from({ length: 8 }, (_, value) => ask({ do: 'echo', value }));
    expect(await hung).toContain('DEADLINE_EXCEEDED');
    expect(await Promise.all(behind)).toEqual(Array.from({ length: 8 }, (_, value) => value));
    await until(() => engine.deployments.get('app').ongoing === 0);
  });

  it.runIf(areThreads).each(['close', 'destroy'] as const)(
    'ends with its thread when the engine does: %s',
    async (how) => {
      await start({ gracefulShutdownTimeoutMs: 100 });
      const counter = new Int32Array(new SharedArrayBuffer(4));
      const late = outcome(ask({ do: 'count', counter }, 'app', { timeoutMs: 50 }));
      expect(await late).toContain('DEADLINE_EXCEEDED');
      await engine[how]();
      const last = Atomics.load(counter, 0);
      await new Promise((resolve) => setTimeout(resolve, 30));
      expect([Atomics.load(counter, 0), last > 0]).toEqual([last, true]);
    },
  );

  it.runIf(areThreads)('has what its handler does at the end done, though nothing else wakes the replica', async () => {
    const handler = new URL('../../support/concurrent-handler.mjs', import.meta.url);
    engine = await startHandler({ handler });
    const done = new Int32Array(new SharedArrayBuffer(4));
    expect(await outcome(ask({ do: 'slow end', done }, 'app', { timeoutMs: 20 }))).toContain('DEADLINE_EXCEEDED');
    await until(() => done[0] === 1);
  });

  it('does not keep a replica that is given up', async () => {
    await start({ replicas: 1, gracefulShutdownTimeoutMs: 50 });
    const stubborn = outcome(ask({ do: 'wait', isStubborn: true }));
    await until(() => engine.deployments.get('app').ongoing > 0);
    const deleted = await engine.deployments.delete('app');
    expect(await deleted.done).toBe('reached');
    expect(await stubborn).toContain('FAILED_PRECONDITION: deployment app was deleted');
  });
});
