import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type DeploymentOptions, type InferenceEngine, type InfermuxError } from '../../../dist/index.js';
import {
  HANDLER,
  models,
  OWN_MODELS,
  outcome,
  requestsTo,
  startHandler,
  x,
} from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options?: DeploymentOptions): Promise<void> {
  engine = await startHandler(options);
}

afterEach(() => engine?.destroy());

describe('a request for a handler', () => {
  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['a number', Number.NaN],
    ['a big integer', 7n],
    ['bytes', Uint8Array.of(1, 2, 3)],
    ['a map', new Map([['a', new Date(0)]])],
    ['an error', new RangeError('too far')],
    ['nested data', { a: [{ b: new Set([1]) }], text: 'ä' }],
  ])('may be %s, and comes back as it was', async (_, value) => {
    await start();
    expect(await ask({ do: 'echo', value })).toEqual(value);
    expect(await ask(value)).toMatchObject({ requests: 2 });
  });

  it('is a copy, as is the answer', async () => {
    await start();
    const value = Uint8Array.of(1);
    const answer = ask<Uint8Array>({ do: 'echo', value });
    value[0] = 9;
    expect((await answer)[0]).toBe(1);
  });

  it('is refused when it cannot be cloned, and so is what is for models alone', async () => {
    await start();
    expect(await outcome(ask(() => undefined))).toContain('INVALID_ARGUMENT: the request cannot be cloned');
    const withOutputs = ask(1, 'app', { outputs: ['y'] });
    expect(await outcome(withOutputs)).toContain('INVALID_ARGUMENT: outputs and transfer are for models');
  });

  it('tells how it fared', async () => {
    await start();
    const result = await engine.infer<number>({ target: 'app/times-2', feeds: { do: 'run', model: 'times-2', x } });
    expect(result).toMatchObject({ outputs: 10, model: 'times-2', deployment: 'app', replica: 'app-0', batchSize: 1 });
  });

  it('fails alone', async () => {
    await start();
    const answers = await Promise.all(
      [
        { do: 'throw' },
        { do: 'function' },
        { do: 'bad feeds' },
        { do: 'run', model: 'none', x },
        { do: 'echo', value: 1 },
      ].map((request) => outcome(ask(request))),
    );
    expect(answers).toEqual([
      'INFERENCE_FAILED: the handler failed: as asked',
      expect.stringContaining('INFERENCE_FAILED: the handler returned what cannot be cloned: () => undefined'),
      expect.stringContaining('INVALID_ARGUMENT: model "times-1": input "x" is missing'),
      expect.stringContaining('MODEL_NOT_FOUND: no model "none"'),
      1,
    ]);
  });

  it('may ask for more than it waits for: what fails of that ends no thread', async () => {
    await start();
    for (let round = 0; round < 5; round += 1) expect(await ask({ do: 'leave' })).toBe('left');
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
    expect(engine.status().replicas).toMatchObject([{ restarts: 0 }]);
  });

  it('may name any number of models, and nothing is left of those that are not there', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 2 });
    for (let round = 0; round < 300; round += 1) await ask(undefined, `app/tenant-${round}`);
    const text = await engine.metrics.metrics();
    expect(text).toContain('infermux_router_requests_total{model="(handler)"} 300');
    expect(text).not.toContain('model="tenant-1"');
    expect(engine.status().replicas[0]?.models).toHaveLength(2);
  });

  it('tells where it failed', async () => {
    await start();
    const failed = ask({ do: 'throw' }).catch(({ cause }: InfermuxError) => (cause as Error).stack);
    expect(await failed).toMatch(/^Error: as asked\n\s+at .*handle.*handler\.mjs:\d+/);
  });

  it('may write to the log of the engine', async () => {
    const lines: object[] = [];
    const logger = {
      debug: () => 0,
      info: () => 0,
      error: () => 0,
      warn: (...line: object[]) => lines.push(line),
    } as never;
    engine = await createEngine({ models, logger, replicas: 1, handler: HANDLER });
    expect(await ask({ do: 'log' }, 'default')).toBe('said');
    await until(() => lines.length > 0);
    expect(lines).toContainEqual([{ replica: 'default-0', page: 7 }, 'something to say']);
  });

  it('runs models of the engine, loads them, and follows what their ids stand for', async () => {
    await start({ maxModelsPerReplica: 1 });
    expect(await ask({ do: 'run', model: 'times-2', x })).toBe(10);
    expect(await ask({ do: 'both', models: ['times-2', 'times-3'], x })).toEqual({ answer: 30, inputs: ['x'] });
    await until(() => engine.status().replicas[0]?.models.length === 1);
    expect(await engine.models.unloadAll()).toBeGreaterThan(0);
    expect(engine.status().replicas[0]?.models).toEqual([]);
    expect(await ask({ do: 'run', model: 'times-3', x })).toBe(15);
  });

  it('may change its arrays as soon as it runs a model on them, and share their memory', async () => {
    await start();
    for (const first of [5, 6]) {
      const answers = await ask({ do: 'run and change', model: 'times-2', first });
      expect(answers).toEqual([2 * first, 2 * first, 2 * first, 2 * first]);
    }
  });

  it('cannot change what requests after it are checked against', async () => {
    await start();
    expect(await ask({ do: 'spoil', model: 'times-2' })).toEqual(['TypeError', 'TypeError', 'TypeError']);
    expect(await ask({ do: 'run', model: 'times-2', x })).toBe(10);
  });

  it('is told of bad names of outputs as a caller of the engine is', async () => {
    await start();
    const answers = await ask<string[]>({ do: 'bad outputs', model: 'times-2' });
    expect(answers).toEqual(new Array(12).fill('INVALID_ARGUMENT'));
  });

  it('writes what cannot be cloned to the log as text, and is answered', async () => {
    const lines: object[] = [];
    const logger = pino({ base: null, timestamp: false }, { write: (line: string) => lines.push(JSON.parse(line)) });
    engine = await startHandler({}, logger);
    expect(await ask({ do: 'log oddly' })).toBe('logged');
    const replica = 'app-0';
    const logged = () => lines.filter((line) => !('state' in line));
    await until(() => logged().length === 3);
    expect(logged()).toMatchObject([
      { replica, run: expect.stringContaining('run'), url: 'file:///x', page: 7, msg: 'odd' },
      { replica, err: 'whole', msg: 'Symbol(text)' },
      { replica, unreadable: expect.stringContaining('null'), msg: 'nothing' },
    ]);
  });

  it('runs models on arrays of numbers, by whichever way it comes to them', async () => {
    await start();
    expect(await ask({ do: 'run', model: 'times-2', x: [5, 0, 0, 0] })).toBe(10);
    expect(await ask({ do: 'both', models: ['times-2', 'times-3'], x: [5, 0, 0, 0] })).toMatchObject({ answer: 30 });
    expect(await outcome(ask({ do: 'run', model: 'times-2', x: [1e39, 0, 0, 0] }))).toBe(
      'INVALID_ARGUMENT: model "times-2": input "x": 1e+39 at index 0 is no float32: the number is too large',
    );
  });

  it.each(['nothing', 'text', 'an object for a message', 'what cannot be looked at'])(
    'fails alone also when what is thrown is %s',
    async (kind) => {
      await start();
      const answers = await Promise.all(
        [
          { do: 'echo', value: 1 },
          { do: 'odd', kind },
          { do: 'echo', value: 2 },
        ].map((request) => outcome(ask(request))),
      );
      expect(answers).toEqual([1, expect.stringContaining('INFERENCE_FAILED: the handler failed: '), 2]);
      // Nothing is left that a stop would wait for.
      await engine.close({ graceMs: 1_000 });
      expect(engine.status().state).toBe('closed');
    },
  );

  it('fails once when a model of it cannot be loaded', async () => {
    engine = await createEngine({ models: { broken: new Uint8Array(100) }, handler: HANDLER, replicas: 1 });
    expect(await outcome(ask({ do: 'run', model: 'broken', x }, 'default'))).toContain('MODEL_LOAD_FAILED');
    expect(await ask({}, 'default')).toMatchObject({ requests: 2 });
  });

  it('may hold more models at once than there is room for, while others come, go and are unloaded', async () => {
    await start({ maxModelsPerReplica: 1 });
    const several = { do: 'several', models: ['times-1', 'times-2', 'times-3'] };
    const calls = Array.from({ length: 30 }, (_, index) =>
      outcome(ask(index % 3 === 0 ? several : { do: 'both', models: ['times-1', `times-${(index % 3) + 1}`], x })),
    );
    for (let round = 0; round < 5; round += 1) await engine.models.unloadAll();
    const answers = await Promise.all(calls);
    expect(answers.filter((answer) => typeof answer === 'string')).toEqual([]);
    await until(() => engine.status().replicas[0]?.models.length === 1);
  });

  it('keeps what it holds, though that is unloaded and there is room for nothing beside it', async () => {
    engine = await createEngine({ models, replicas: 0 });
    const bytes = engine.models.size('times-1');
    await engine.destroy();
    await start({ maxModelBytesPerReplica: bytes });
    const calls = Array.from({ length: 12 }, () => outcome(ask({ do: 'both', models: ['times-1', 'times-2'], x })));
    for (let round = 0; round < 8; round += 1) await engine.models.unload('times-1');
    expect(await Promise.all(calls)).toEqual(Array(12).fill({ answer: 10, inputs: ['x'] }));
  });

  it('may leave a load behind that it did not wait for: it is ended, and its model can be unloaded', async () => {
    await start({ maxModelsPerReplica: 1 });
    for (let round = 0; round < 5; round += 1) {
      expect(await ask({ do: 'race', model: 'times-2' })).toBe('early');
      expect(await ask({ do: 'run', model: 'times-3', x })).toBe(15);
      await engine.models.unloadAll();
      expect(engine.status().replicas[0]?.models).toEqual([]);
    }
  });

  it('goes to a replica that has the model it names', async () => {
    await start({ replicas: 3 });
    await ask({ do: 'run', model: 'times-2', x }, 'app/times-2');
    const having = engine.status().replicas.filter((replica) => replica.models.length > 0);
    for (let request = 0; request < 10; request += 1) {
      const answer = await ask({}, 'app/times-2');
      expect(answer).toMatchObject({ replica: having[0]?.id, modelId: 'times-2' });
    }
  });
});
