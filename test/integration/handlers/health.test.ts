import { type Logger, pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions, InferenceEngine } from '../../../dist/index.js';
import { outcome, requestsTo, startHandler } from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options?: DeploymentOptions, logger?: Logger): Promise<void> {
  engine = await startHandler(options, logger);
}

/** A logger, and the milliseconds for which it was told that a replica waits before it starts again. */
function pausesLogged() {
  const pauses: number[] = [];
  const write = (line: string) => {
    const { delayMs } = JSON.parse(line);
    if (delayMs !== undefined) pauses.push(delayMs);
  };
  return { pauses, logger: pino({ level: 'warn' }, { write }) };
}

afterEach(() => engine?.destroy());

describe('health', () => {
  it('replaces a replica whose handler says that it is ill', async () => {
    await start({ healthCheck: { periodMs: 5, failures: 2 } });
    expect(await ask({ do: 'fall ill' })).toBe('ill');
    await until(() => engine.status().replicas[0]?.restarts === 1 && engine.ready);
    expect(engine.deployments.get('app').lastFailure).toContain('health check failed: not well');
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
  });

  it('replaces a replica whose handler keeps its thread for ever, and the thread is ended', async () => {
    await start({ healthCheck: { periodMs: 20, timeoutMs: 30, failures: 2 } });
    // It ends two replicas, and then is answered.
    expect(await outcome(ask({ do: 'spin' }))).toContain(
      'REPLICA_FAILED: replica app-0 failed: no answer to a health check',
    );
    await until(() => engine.ready);
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
    const before = performance.now();
    await engine.close();
    expect(performance.now() - before).toBeLessThan(10_000);
  });

  it('costs no long pause where the replica has answered, however often it falls ill', async () => {
    const { pauses, logger } = pausesLogged();
    await start({ healthCheck: { periodMs: 5, failures: 1 } }, logger);
    for (let round = 1; round <= 5; round += 1) {
      expect(await ask({ do: 'fall ill' })).toBe('ill');
      await until(() => engine.status().replicas[0]?.restarts === round && engine.ready);
    }
    expect(pauses).toHaveLength(5);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(500);
  });

  it('is not what stats are about: a handler that fails to tell them goes on', async () => {
    await start({ routingStats: { periodMs: 5 }, userConfig: { noStats: true } });
    for (let round = 0; round < 20; round += 1) await ask({ do: 'echo', value: round });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(engine.status().replicas).toMatchObject([{ restarts: 0, routingStats: { throughput: expect.any(Number) } }]);
  });

  it('nor may it put anything but numbers in their place', async () => {
    const messages: string[] = [];
    const logger = pino({ level: 'warn' }, { write: (line) => messages.push(line) });
    await start({ routingStats: { periodMs: 5 }, userConfig: { noNumbers: true } }, logger);
    await until(() => messages.some((line) => line.includes('NaN for throughput instead of a finite number')));
    expect(engine.status().replicas).toMatchObject([{ routingStats: { throughput: expect.any(Number) } }]);
    expect(engine.status().replicas[0]?.routingStats?.throughput).not.toBeNaN();
  });

  it('is asked for again and again, with what the handler tells of itself', async () => {
    await start({ routingStats: { periodMs: 5 } });
    await ask({ do: 'echo', value: 1 });
    await until(() => engine.status().replicas[0]?.routingStats?.['requests'] === 1);
  });

  it('and by another period from the moment that it is named', async () => {
    await start({ routingStats: { periodMs: 3_600_000 } });
    const [name] = engine.deployments.list().filter(({ options }) => options.handler !== undefined);
    await (await engine.deployments.update(name?.name ?? '', { routingStats: { periodMs: 5 } })).done;
    await until(() => engine.status().replicas.some(({ routingStats }) => routingStats?.['requests'] !== undefined));
  });

  it('a handler that ends its thread costs its own request alone', async () => {
    await start({ replicas: 2 });
    const others = Array.from({ length: 10 }, (_, value) => ask({ do: 'echo', value }));
    expect(await outcome(ask({ do: 'exit' }))).toContain('REPLICA_FAILED');
    expect(await Promise.all(others)).toEqual(Array.from({ length: 10 }, (_, value) => value));
    await until(() => engine.ready);
  });

  it('and its thread waits for longer and longer where it ends before anything is answered', async () => {
    const { pauses, logger } = pausesLogged();
    await start({}, logger);
    // Another request each time: the same is barred.
    for (let round = 0; round < 2; round += 1)
      expect(await outcome(ask({ do: 'exit', round }))).toContain('REPLICA_FAILED');
    expect(pauses).toEqual([0, 0, 0, 1_000]);
    await until(() => engine.ready);
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
    // That answer begins a new row.
    expect(await outcome(ask({ do: 'exit', round: 2 }))).toContain('REPLICA_FAILED');
    expect(Math.max(...pauses.slice(4))).toBeLessThanOrEqual(500);
  });
});
