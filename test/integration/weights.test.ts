import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineLogger, type EngineOptions, type InferenceEngine } from '../../dist/index.js';
import { directory } from '../support/directories.js';
import { denseModel, scaleModel } from '../support/onnx-models.js';
import { until } from '../support/until.js';

const support = (name: string) => fileURLToPath(new URL(`../support/${name}`, import.meta.url));
const run = promisify(execFile);

const WIDTH = 1_024;
const NARROW = 512;
const models = directory({
  'dense.onnx': denseModel(WIDTH, 3),
  'narrow.onnx': denseModel(NARROW, 3),
  'small.onnx': scaleModel(2),
});
const path = join(models, 'dense.onnx');
const feeds = {
  x: { dims: [2, WIDTH], data: Float32Array.from({ length: 2 * WIDTH }, (_, index) => Math.sin(index)) },
};

let store: string;
let engine: InferenceEngine;
let warnings: string[];

beforeEach(() => {
  store = join(directory(), 'store');
});
afterEach(() => engine?.close());

async function start(options: EngineOptions = {}): Promise<InferenceEngine> {
  warnings = [];
  const ignore = () => undefined;
  engine = await createEngine({
    ...{ models, replicas: 2, weights: 'shared', weightStore: { directory: store } },
    logger: {
      ...{ debug: ignore, info: ignore, error: ignore },
      // A load that took long says how busy the machine is, and nothing of the weights.
      warn: ((fields: { reason?: string }, message: string) => {
        if (message !== 'slow model load') warnings.push(`${message}: ${fields.reason}`);
      }) as never,
    },
    ...options,
  });
  return engine;
}

const answerOf = async () => Array.from((await engine.run('dense', feeds))['y']?.data as Float32Array);
const entries = () => readdirSync(store).filter((name) => !name.includes('.'));
const compile = (into = store) => run(process.execPath, [support('compile-child.mjs'), path, String(WIDTH), into]);
const lastLine = (text: string) => JSON.parse(text.trim().split('\n').at(-1) as string);

describe('shared weights', () => {
  it('give the same answers, from one entry for all replicas and engines', async () => {
    await start({ weights: 'private' });
    const expected = await answerOf();
    await engine.close();
    for (let time = 0; time < 2; time += 1) {
      await start();
      await engine.models.load('dense', { replicas: 'all' });
      expect(await answerOf()).toEqual(expected);
      await engine.close();
      expect([entries().length, warnings]).toEqual([1, []]);
    }
  });

  it('are for one model where it says so, and not for small ones', async () => {
    await start({
      weights: 'private',
      models: { dense: { path, weights: 'shared' }, small: join(models, 'small.onnx') },
    });
    await engine.models.load('dense');
    await engine.models.load('small');
    expect(entries()).toHaveLength(1);
    await engine.close();
    await start();
    await engine.models.load('small');
    expect([entries().length, warnings]).toEqual([1, []]);
  });

  it('have an entry for each set of session options', async () => {
    for (const graphOptimizationLevel of ['all', 'basic'] as const) {
      await start({ session: { graphOptimizationLevel } });
      await engine.models.load('dense');
      await engine.close();
    }
    expect(entries()).toHaveLength(2);
  });

  it('work for a model in memory', async () => {
    await start({ models: { dense: denseModel(WIDTH, 3) } });
    const answer = await answerOf();
    expect([entries().length, warnings]).toEqual([1, []]);
    await engine.close();
    await start({ weights: 'private' });
    expect(await answerOf()).toEqual(answer);
  });

  it('are private, with a warning, where the store cannot be written', async () => {
    await start({ weightStore: { directory: join(path, 'no folder') } });
    await answerOf();
    expect(warnings).toEqual([expect.stringContaining('the weights of the model are not shared: ENOTDIR')]);
  });

  it('are private, with a warning, for providers that have weights of their own', async () => {
    await start({ session: { executionProviders: ['cpu', 'coreml'] } });
    await engine.models.load('dense').catch(() => undefined);
    expect(warnings[0]).toContain('the execution provider coreml has weights of its own');
  });

  it('are compiled anew when the entry is cut short', async () => {
    await start();
    const expected = await answerOf();
    await engine.close();
    const weights = join(store, entries()[0] as string, 'weights.bin');
    const { size } = statSync(weights);
    truncateSync(weights, size / 2);
    await start();
    expect(await answerOf()).toEqual(expected);
    expect([statSync(weights).size, warnings]).toEqual([size, []]);
  });

  it('are compiled once by two processes that want them at once', async () => {
    const both = await Promise.all([compile(), compile()]);
    const answers = both.map(({ stdout }) => lastLine(stdout));
    expect(answers[0].first).toBe(answers[1].first);
    expect(answers.map(({ compiled }) => compiled).sort()).toEqual([0, 1]);
    expect(answers.flatMap(({ warnings: told }) => told)).toEqual([]);
    expect(readdirSync(store)).toEqual(entries());
    expect(entries()).toHaveLength(1);
  });

  it.each<[string, (names: string[]) => boolean]>([
    ['the store is there', () => true],
    ['the lock is taken', (names) => names.some((name) => name.endsWith('.lock'))],
    ['the folder is made', (names) => names.some((name) => name.endsWith('.tmp'))],
    [
      'weights are written',
      (names) => names.some((name) => name.endsWith('.tmp') && readdirSync(join(store, name)).includes('weights.bin')),
    ],
  ])('survive that a process is killed when %s', async (_, isReached) => {
    const expected = lastLine((await compile(join(directory(), 'store'))).stdout).first;
    await killWhen(
      'compile-child.mjs',
      [path, String(WIDTH), store],
      () => existsSync(store) && isReached(readdirSync(store)),
    );
    expect(lastLine((await compile()).stdout)).toMatchObject({ first: expected, warnings: [] });
    expect(readdirSync(store)).toEqual(entries());
  });
});

describe('weights that are left to the engine', () => {
  const LARGE = 2_100;
  const large = directory({ 'large.onnx': denseModel(LARGE, 1) });
  const x = { dims: [1, LARGE], data: Float32Array.from({ length: LARGE }, (_, index) => Math.cos(index)) };
  const ask = async () => Array.from((await engine.run('large', { x }))['y']?.data as Float32Array);
  const weights = () =>
    engine.status().replicas.flatMap(({ models: sessions }) => sessions.map((each) => each.weights));

  it('are private at first and shared in the end, and each answer in between is the same', async () => {
    const told: string[] = [];
    const ignore = () => undefined;
    const logger = {
      ...{ debug: ignore, error: ignore, warn: ((_, message) => told.push(message)) as EngineLogger['warn'] },
      info: ((fields: { directory?: string }, message: string) => {
        if (fields.directory !== undefined) told.push(`${message}: ${fields.directory}`);
      }) as never,
    };
    await start({ weights: undefined, models: large, logger });
    const expected = await ask();
    await engine.models.load('large', { replicas: 'all' });
    expect(weights()).toEqual(['private', 'private']);
    let answers = 0;
    await until(async () => {
      expect(await ask()).toEqual(expected);
      answers += 1;
      return weights().every((each) => each === 'shared');
    });
    expect(answers).toBeGreaterThan(10);
    expect(await ask()).toEqual(expected);
    expect(engine.status().weightStore).toEqual({ directory: store, maxBytes: 8 * 2 ** 30 });
    expect(told.filter((line) => !line.includes('slow model load'))).toEqual([
      `sessions share weights through the weight store: ${store}`,
    ]);
    // A later load maps them.
    await engine.models.unload('large');
    await engine.models.load('large');
    expect(weights()).toEqual(['shared']);
    // The next engine finds the entry as it was left.
    await engine.close();
    await start({ weights: undefined, models: large });
    await engine.models.load('large', { replicas: 'all' });
    expect(weights()).toEqual(['shared', 'shared']);
    expect(await ask()).toEqual(expected);
    // The one after it finds that it was changed, and has it built anew.
    await engine.close();
    const file = join(store, entries()[0] as string, 'weights.bin');
    const wrong = readFileSync(file).fill(7);
    writeFileSync(file, wrong);
    await start({ weights: undefined, models: large });
    await engine.models.load('large', { replicas: 'all' });
    expect(weights()).toEqual(['private', 'private']);
    await until(() => weights().every((each) => each === 'shared'));
    expect(await ask()).toEqual(expected);
    expect([entries().length, readFileSync(file).equals(wrong)]).toEqual([1, false]);
  });

  it('stay private, with one warning, where the store cannot be written', async () => {
    await start({ weights: undefined, models: large, weightStore: { directory: join(path, 'no folder') } });
    await engine.models.load('large', { replicas: 'all' });
    await until(() => warnings.length > 0);
    expect(warnings).toEqual([expect.stringContaining('the weight store cannot be used: ENOTDIR')]);
    expect(weights()).toEqual(['private', 'private']);
    expect(await ask()).toHaveLength(LARGE);
  });
});

describe.each(['private', 'shared'])('200 cycles of loading and unloading with %s weights', (weights) => {
  it('leave the memory level', async () => {
    const args = [support('cycles-child.mjs'), join(models, 'narrow.onnx'), String(NARROW), weights, store];
    // Or glibc would keep up to 32 MB of what each thread frees, now more and now less of it.
    const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: '1048576' };
    const child = await run(process.execPath, args, { env });
    const { before, after } = lastLine(child.stdout);
    // A session that was not released would be 3 MB, and one in each cycle 600 MB.
    expect(after - before).toBeLessThan(15);
  }, 180_000);
});

it.each<[string, (staged: string[]) => boolean]>([
  ['its folder is made', () => true],
  ['a file is there', (staged) => staged.length > 0],
  ['its last file is there', (staged) => staged.includes('data.bin')],
])('a process that is killed in a deploy when %s leaves nothing that the next one sees', async (_, isReached) => {
  const repository = directory();
  const staging = join(repository, '.infermux-staging');
  await killWhen('deploy-child.mjs', [repository], () => {
    // Each folder comes and goes with a deploy.
    const [folder] = namesIn(staging);
    return folder !== undefined && isReached(namesIn(join(staging, folder, 'model')));
  });
  await start({ models: repository, weights: 'private' });
  const reports = engine.models.list();
  expect(reports.filter(({ problem, licence, bytes }) => problem || licence !== 'MIT' || bytes !== 2_000_000)).toEqual(
    [],
  );
  await engine.models.deploy('next', { 'model.onnx': scaleModel(2) });
  expect((await engine.run('next', { x: { dims: [1, 4], data: new Float32Array(4).fill(1) } }))['y']?.data[0]).toBe(2);
});

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Starts the child and kills it as soon as the state is reached. */
async function killWhen(name: string, args: readonly string[], isReached: () => boolean): Promise<void> {
  const child = spawn(process.execPath, [support(name), ...args]);
  const exited = new Promise((resolve) => child.once('exit', resolve));
  let isOver = false;
  void exited.then(() => {
    isOver = true;
  });
  try {
    while (!isReached()) {
      if (isOver) throw new Error(`${name} ended before it was to be killed`);
      await new Promise(setImmediate);
    }
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}
