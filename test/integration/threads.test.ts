import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { createEngine } from '../../dist/index.js';
import { areThreads } from '../support/isolation.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

it.runIf(areThreads)('the threads are those of Piscina pools, one for each replica', async () => {
  let threads = 0;
  const count = () => {
    threads += 1;
  };
  process.on('worker', count);
  const handler = new URL('../support/piscina-handler.mjs', import.meta.url);
  const engine = await createEngine({ replicas: 0, deployments: { asked: { handler, replicas: 3 } } });
  try {
    const answers = await Promise.all(Array.from({ length: 12 }, () => engine.run<boolean>('asked', undefined)));
    expect(answers).toEqual(Array(12).fill(true));
    expect(threads).toBe(3);
  } finally {
    await engine.close();
    process.off('worker', count);
  }
});

it('a process with an engine that has nothing to do ends by itself, and so do its threads', () => {
  const models = modelDirectory({ double: scaleModel(2) });
  const script = `
    import { createEngine } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    const engine = await createEngine({ models: ${JSON.stringify(models)}, replicas: 2 });
    await engine.run('double', { x: { dims: [1, 4], data: new Float32Array(4) } });
    await new Promise((resolve) => setTimeout(resolve, 100));
    process.on('exit', (code) => console.log('exit', code, engine.status().state));`;
  const args = ['--input-type=module', '--eval', script];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'exit 0 running\n' });
});

it('a process ends by itself while replicas are starting', () => {
  const script = `
    import { createEngine } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    const engine = await createEngine({ replicas: 1 });
    await engine.deployments.update('default', { replicas: 4 });
    process.on('exit', (code) => console.log('exit', code));`;
  const args = ['--input-type=module', '--eval', script];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 30_000 });
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'exit 0\n' });
});

it('a process outlives threads that are ended while they start', () => {
  const child = fileURLToPath(new URL('../support/ended-threads-child.mjs', import.meta.url));
  const { status, signal } = spawnSync(process.execPath, [child], { timeout: 60_000 });
  expect({ status, signal }).toEqual({ status: 0, signal: null });
});
