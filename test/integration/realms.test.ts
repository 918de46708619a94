import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { createContext, runInContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type DeploymentOptions, type EngineOptions, type InferenceEngine } from '../../dist/index.js';
import { directory } from '../support/directories.js';
import { outcome } from '../support/engines/handlers-engine.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

const models = modelDirectory({ 'times-2': scaleModel(2) });
const support = (name: string) => fileURLToPath(new URL(`../support/${name}`, import.meta.url));
const row = { x: { dims: [1, 4], data: Float32Array.of(5, 0, 0, 0) } };

let engine: InferenceEngine;
afterEach(() => engine?.destroy());

it('the package runs in a realm with other classes and with globals of a browser', async () => {
  const child = ['--experimental-vm-modules', '--no-warnings', support('realm-child.mjs')];
  const args = [models, support('handler.mjs'), directory()];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [...child, ...args]);
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    models: [10, 10, 10, 10, 10],
    handler: 30,
    thrown: 'true INFERENCE_FAILED: the handler failed: as asked',
    refused: expect.stringMatching(/^true INVALID_ARGUMENT: .*"x"/),
    cancelled: 'true CANCELLED: the request was cancelled',
    reason: 'changed my mind',
    listeners: 0,
    late: expect.stringMatching(/^true DEADLINE_EXCEEDED/),
    again: 'reached',
    restored: 'reached',
    missing: expect.stringMatching(
      /^true FAILED_PRECONDITION: model "missing": ENOENT: no such file [^{]*missing.onnx'$/,
    ),
    deployed: 10,
  });
}, 60_000);

describe('values of another realm', () => {
  const realm = createContext({
    bytes: [...scaleModel(3)],
    handler: support('handler.mjs'),
    url: pathToFileURL(models),
  });
  const foreign = <T>(expression: string) => runInContext(`(${expression})`, realm) as T;

  it('are options, bytes and requests like others', async () => {
    const options = `{
      models: { array: new Uint8Array(bytes), buffer: { bytes: new Uint8Array(bytes).buffer } },
      replicas: 1,
      batching: { maxSize: 4 },
      deployments: { app: { handler, userConfig: { factor: 2, list: [1, { a: null }] }, labels: [{ a: 'b' }] } },
    }`;
    engine = await createEngine(foreign<EngineOptions>(options));
    const { array, buffer } = { array: await engine.run('array', row), buffer: await engine.run('buffer', row) };
    expect([array['y']?.data[0], buffer['y']?.data[0]]).toEqual([15, 15]);
    expect(
      await outcome(engine.run('app', foreign('{ do: "echo", value: [new Date(0), new Map([[1, 2]])] }'))),
    ).toEqual([...[new Date(0), new Map([[1, 2]])]]);
    const same = `{ handler, userConfig: { factor: 2, list: [1, { a: null }] }, labels: [{ a: 'b' }] }`;
    expect((await engine.deployments.create('app', foreign<DeploymentOptions>(same))).status).toBe('reached');
  });

  it('are files of a deploy', async () => {
    engine = await createEngine({ models: directory(), replicas: 1 });
    for (const [id, contents] of Object.entries({ a: 'new Uint8Array(bytes)', b: 'new Uint8Array(bytes).buffer' })) {
      await engine.models.deploy(id, foreign(`{ 'model.onnx': ${contents} }`));
      expect((await engine.run(id, row))['y']?.data[0], id).toBe(15);
    }
  });

  it('are errors of a handler with their message', async () => {
    const file =
      "import { runInNewContext } from 'node:vm';\nexport const handle = (text) => { throw runInNewContext(text); };";
    const handler = join(directory({ 'handler.mjs': file }), 'handler.mjs');
    engine = await createEngine({ replicas: 0, deployments: { app: { handler } } });
    expect(await outcome(engine.run<unknown>('app', 'new RangeError("too far")'))).toBe(
      'INFERENCE_FAILED: the handler failed: too far',
    );
  });
});

it('an error of another copy of the package that a handler throws keeps its code', async () => {
  const copy = pathToFileURL(support('../../dist/common/errors.js')).href;
  const file = `import { InfermuxError } from '${copy}?copy';\nexport const handle = () => { throw new InfermuxError('QUEUE_FULL', 'full'); };`;
  const handler = join(directory({ 'handler.mjs': file }), 'handler.mjs');
  engine = await createEngine({ replicas: 0, deployments: { app: { handler } } });
  expect(await outcome(engine.run<unknown>('app', 1))).toBe('QUEUE_FULL: full');
});
