import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine, type InfermuxError } from '../../../dist/index.js';
import { countingModel, deepModel, divisionModel, fillingModel } from '../../support/hazard-models.js';
import { modelDirectory, oddOutputsModel, scaleModel, trapModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

const SMALLEST = -(2n ** 63n);
const MEMORY_LIMIT = 700e6;
const models = modelDirectory({
  double: scaleModel(2),
  division: divisionModel(),
  counting: countingModel(),
  filling: fillingModel(),
  deep: deepModel(5_000),
  trap: trapModel(),
  int4: oddOutputsModel(['int4'], false),
  'int4-and-label': oddOutputsModel(['int4']),
});
const integers = (...values: bigint[]) => ({ dims: [values.length], data: BigInt64Array.from(values) });
const row = (value: number) => ({ x: { dims: [1, 4], data: new Float32Array(4).fill(value) } });

let engine: InferenceEngine;
const logged: [string, Record<string, unknown>][] = [];

beforeAll(async () => {
  const quiet = () => undefined;
  const warn = (fields: Record<string, unknown>, message: string) => logged.push([message, fields]);
  engine = await createEngine({
    models,
    replicas: 2,
    maxModelsPerReplica: 8,
    isolation: { kind: 'process', runTimeoutMs: 700, memoryLimitBytes: MEMORY_LIMIT },
    logger: { debug: quiet, info: quiet, warn, error: quiet } as never,
  });
}, 30_000);

afterAll(() => engine.close());

const outcome = (answer: Promise<Record<string, { data: unknown }>>) =>
  answer.then(
    ({ y }) => [...((y as { data: Iterable<unknown> }).data ?? [])].map(Number),
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );

/** What stays as it was, whatever else happened. */
async function expectService(): Promise<void> {
  expect(await outcome(engine.run('double', row(3)))).toEqual([6, 6, 6, 6]);
  await until(() => engine.status().replicas.every(({ state }) => state === 'running'));
}

describe('an isolated deployment', () => {
  it.runIf(process.arch === 'x64')(
    'survives a division that kills its process, which request data brings about',
    async () => {
      expect(await outcome(engine.run('division', { a: integers(8n, 9n), b: integers(2n, 3n) }))).toEqual([4, 3]);
      const killer = { a: integers(SMALLEST), b: integers(-1n) };
      expect(await outcome(engine.run('division', killer))).toMatch(
        /^REPLICA_FAILED: replica default-\d failed: its process was killed by SIGFPE$/,
      );
      await expectService();
      expect(await outcome(engine.run('division', { a: integers(8n), b: integers(2n) }))).toEqual([4]);
      // The while doubles, so that a slow machine comes in time at last. An answer in between keeps the model from blame.
      let again = '';
      for (let tries = 1; !again.includes('the same request is not run again for a while'); tries += 1) {
        expect(tries).toBeLessThan(8);
        again = String(await outcome(engine.run('division', killer)));
        expect(await outcome(engine.run('division', { a: integers(6n), b: integers(3n) }))).toEqual([2]);
      }
      const [harmful] = engine.status().deployments['default']?.harmful ?? [];
      expect(harmful).toMatchObject({ model: 'division', reason: expect.stringContaining('SIGFPE'), isBarred: false });
      const values = (await engine.metrics.getSingleMetric('infermux_killing_requests_total')?.get())?.values;
      expect(values).toEqual([{ labels: { deployment: 'default', model: 'division' }, value: harmful?.requests }]);
      expect(logged.find(([message]) => message.startsWith('a request ended replicas'))?.[1]).toMatchObject({
        ...{ model: 'division', deployment: 'default', isModelBarred: false, nextTryInMs: 1_000 },
      });
    },
  );

  it('kills a run that takes longer than runTimeoutMs, and tells its caller so', async () => {
    expect(await outcome(engine.run('counting', { x: integers(7n) }))).toEqual([7]);
    expect(await outcome(engine.run('counting', { x: integers(2n ** 62n) }))).toBe(
      'DEADLINE_EXCEEDED: the run took longer than runTimeoutMs: 700 allows, and its process was killed',
    );
    await expectService();
    expect(await outcome(engine.run('counting', { x: integers(8n) }))).toEqual([8]);
  });

  it.runIf(process.platform === 'linux')('kills a run that takes more memory than memoryLimitBytes', async () => {
    expect(await outcome(engine.run('filling', { x: integers(1_000n) }))).toEqual([1]);
    // 4 GB, if it got so far.
    expect(await outcome(engine.run('filling', { x: integers(10n ** 9n) }))).toMatch(
      /REPLICA_FAILED: .*its process used \d+ MB of memory, and memoryLimitBytes allows 700 MB, so it was killed|DEADLINE/,
    );
    await expectService();
    // More than any machine has is refused by the system.
    expect(await outcome(engine.run('filling', { x: integers(2n ** 50n) }))).toMatch(/^INFERENCE_FAILED/);
  });

  it('survives a model that kills its process as it is loaded, and bars it', async () => {
    expect(await outcome(engine.run('deep', { x: { dims: [1], data: new Float32Array(1) } }))).toMatch(
      /^MODEL_LOAD_FAILED: model "deep": the replica died while loading the model: .*killed by SIGSEGV/,
    );
    if (process.arch === 'x64') {
      expect(await outcome(engine.run('trap', { x: integers(1n) }))).toMatch(/^MODEL_LOAD_FAILED.*killed by SIGFPE/);
    }
    await expectService();
    expect(await outcome(engine.run('deep', { x: { dims: [1], data: new Float32Array(1) } }))).toMatch(
      /^MODEL_LOAD_FAILED: model "deep": the replica died/,
    );
  });

  it('answers of an int4 output, which would abort its process, what it can', async () => {
    const x = { x: { dims: [1, 2], data: Float32Array.of(1, 2) } };
    expect(await engine.run('int4-and-label', x)).toEqual({
      label: expect.objectContaining({ data: Float32Array.of(-1, -2) }),
    });
    expect(await outcome(engine.run('int4', x))).toMatch(/^MODEL_LOAD_FAILED.*int4/);
    await expectService();
  });
});

it('a deployment is barred from a model that always dies, and the others are served', async () => {
  const own = await createEngine({ models, replicas: 1, isolation: { kind: 'process', runTimeoutMs: 200 } });
  try {
    const barred: unknown[] = [];
    own.on('requestBarred', (fact) => barred.push(fact));
    const endless = (more: bigint) => outcome(own.run('counting', { x: integers(2n ** 62n + more) }));
    expect(await endless(1n)).toMatch(/^DEADLINE_EXCEEDED/);
    expect(await endless(2n)).toMatch(/^DEADLINE_EXCEEDED/);
    expect(await endless(3n)).toMatch(/^REPLICA_FAILED: model "counting" is blocked for a while/);
    expect(await outcome(own.run('double', row(1)))).toEqual([2, 2, 2, 2]);
    expect(barred).toMatchObject([{ isModelBarred: false }, { model: 'counting', isModelBarred: true }]);
    expect(own.status().deployments['default']?.harmful).toMatchObject([{ model: 'counting', isBarred: true }]);
  } finally {
    await own.close();
  }
});
