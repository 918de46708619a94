import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine, type Outputs } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { denseModel } from '../../support/onnx-models.js';

const WIDTH = 1_024;
const ROWS = 64;
const models = directory({ 'dense.onnx': denseModel(WIDTH, 3) });
const feeds = {
  x: { dims: [ROWS, WIDTH], data: Float32Array.from({ length: ROWS * WIDTH }, (_, index) => Math.sin(index)) },
};

let engine: InferenceEngine;
let compiled: number;

beforeEach(() => {
  compiled = 0;
});
afterEach(() => engine?.close());

async function start(options: EngineOptions = {}): Promise<void> {
  const ignore = () => undefined;
  const info = ((_: object, message: string) => {
    if (message.includes('compiled')) compiled += 1;
  }) as never;
  engine = await createEngine({
    ...{ models, replicas: 2, logger: { debug: ignore, info, warn: ignore, error: ignore } },
    ...options,
  });
}

const sessions = () => engine.status().replicas.flatMap((replica) => replica.models);
const isWideLoaded = () => sessions().some(({ wide, state }) => wide && state === 'loaded');

/** One request after the other until the condition holds, for a while. @returns the last answer. */
async function askUntil(isDone: () => boolean, ask: () => Promise<unknown>): Promise<Outputs> {
  const until = performance.now() + 20_000;
  for (;;) {
    const answer = (await ask()) as Outputs;
    if (isDone()) return answer;
    if (performance.now() > until) throw new Error(`not in time: ${JSON.stringify(engine.status().replicas)}`);
  }
}

const dataOf = (outputs: Outputs) => Array.from(outputs['y']?.data as Float32Array);

/** The number of threads decides in which order a kernel adds. */
function expectClose(left: Outputs, right: Outputs): void {
  const [first, second] = [dataOf(left), dataOf(right)];
  expect(first).toHaveLength(ROWS * WIDTH);
  for (const [index, value] of first.entries()) {
    const other = second[index] as number;
    if (Math.abs(value - other) > 1e-5 * (1 + Math.abs(value))) expect(value).toBe(other);
  }
}

// The machine of a test may have one core, and then there are none.
describe.skipIf(availableParallelism() < 2)('a lone caller of a heavy model', () => {
  it('gets a wide session in another replica, which gives the same answers and leaves with the model', async () => {
    await start();
    const narrow = await engine.run('dense', feeds);
    await askUntil(isWideLoaded, () => engine.run('dense', feeds));
    expectClose(await engine.run('dense', feeds), narrow);
    const text = await engine.metrics.metrics();
    expect(text).toMatch(/infermux_wide_runs_total\{model="dense"\} [1-9]/);
    expect(await engine.models.unload('dense')).toBeGreaterThan(0);
    expect(sessions()).toEqual([]);
    expectClose(await engine.run('dense', feeds), narrow);
  });

  it('gets one from the same store of shared weights', async () => {
    const store = join(directory(), 'store');
    const options = { weights: 'shared', weightStore: { directory: store } } as const;
    await start(options);
    const narrow = await engine.run('dense', feeds);
    await engine.close();
    // Here a load takes no compilation, so that a wide session is soon worth it.
    await start(options);
    await askUntil(isWideLoaded, () => engine.run('dense', feeds));
    expectClose(await engine.run('dense', feeds), narrow);
    expect(readdirSync(store).filter((name) => !name.includes('.'))).toHaveLength(1);
    expect(compiled).toBe(1);
  });

  it('gets none where the session options name a number', async () => {
    await start({ session: { intraOpNumThreads: 1 } });
    for (let time = 0; time < 200; time += 1) await engine.run('dense', feeds);
    expect(sessions().filter(({ wide }) => wide)).toEqual([]);
  });

  it.each(['run feeds', 'run held'])('gets one for what a handler runs (%s)', async (what) => {
    const handler = fileURLToPath(new URL('../../support/handler.mjs', import.meta.url));
    await start({ handler });
    const ask = () => engine.run('default/dense', { do: what, model: 'dense', feeds } as never);
    const narrow = (await ask()) as Outputs;
    await askUntil(isWideLoaded, ask);
    for (let time = 0; time < 5; time += 1) expectClose((await ask()) as Outputs, narrow);
  });
});
