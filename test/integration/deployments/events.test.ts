import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, GoalReport, InferenceEngine } from '../../../dist/index.js';
import { row, startDeployments } from '../../support/engines/deployments-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];

async function start(options: EngineOptions = {}): Promise<void> {
  ({ engine, logged } = await startDeployments(options));
}

const done = async (goal: Promise<{ done: Promise<unknown> }>) => (await goal).done;

afterEach(() => engine?.destroy());

describe('engine.on', () => {
  it('tells what happens, in its order, until it is ended', async () => {
    await start({ maxModelsPerReplica: 1 });
    const told: unknown[] = [];
    const off = [
      engine.on('modelLoaded', ({ model, version, replica }) => told.push(['loaded', model, version, replica])),
      engine.on('modelUnloaded', ({ model, reason }) => told.push(['unloaded', model, reason])),
      engine.on('modelLoadFailed', ({ model, code }) => told.push(['failed', model, code])),
      engine.on('replicaState', ({ replica, deployment, state }) => told.push([replica, deployment, state])),
      engine.on('scaled', (fact) => told.push(['scaled', fact])),
      engine.on('goal', ({ deployment, status }: GoalReport) => told.push(['goal', deployment, status])),
    ];
    await engine.run('times-1', row(1));
    await engine.run('times-2', row(1));
    await engine.models.register('bad', Uint8Array.of(1, 2, 3)).catch(() => undefined);
    await done(engine.deployments.create('a', {}));
    await until(() => told.length >= 8);
    expect(told).toEqual([
      ['loaded', 'times-1', 1, 'default-0'],
      ['unloaded', 'times-1', 'evicted'],
      ['loaded', 'times-2', 1, 'default-0'],
      ['failed', 'bad', 'MODEL_LOAD_FAILED'],
      ['scaled', { deployment: 'a', from: 0, to: 1 }],
      ['goal', 'a', 'pending'],
      ['a-0', 'a', 'running'],
      ['goal', 'a', 'reached'],
    ]);
    for (const end of off) end();
    await engine.run('times-1', row(1));
    await done(engine.deployments.delete('a'));
    expect(told).toHaveLength(8);
  });

  it('a listener that fails is told to the log, keeps hearing, and costs nobody anything', async () => {
    await start();
    let calls = 0;
    engine.on('modelLoaded', () => {
      calls += 1;
      throw new Error('no');
    });
    engine.on('modelLoaded', async () => {
      throw new Error('later');
    });
    await engine.run('times-1', row(1));
    await engine.run('times-2', row(1));
    await until(() => logged.filter((line) => line.startsWith('a listener of engine.on failed')).length === 4);
    expect(calls).toBe(2);
  });

  it('refuses names of no event, and listeners that are none', async () => {
    await start();
    expect(() => engine.on('nothing' as never, () => undefined)).toThrow(/the event must be one of/);
    expect(() => engine.on('goal', 7 as never)).toThrow(/the listener must be a function/);
  });
});
