import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { outcome } from '../../support/engines/handlers-engine.js';
import { startModels } from '../../support/engines/models-engine.js';
import { type OddOutput, oddOutputsModel } from '../../support/onnx-models.js';

const CHILD = fileURLToPath(new URL('../../support/odd-outputs-child.mjs', import.meta.url));
const SEQUENCE = 'it is a sequence, map or optional, and onnxruntime-node carries tensors only';
const feeds = { x: { dims: [1, 2], data: Float32Array.of(1, 2) } };

let engine: InferenceEngine;
let logged: string[];

async function start(kinds: readonly OddOutput[], hasLabel = true): Promise<void> {
  ({ engine, logged } = await startModels(directory({ 'm.onnx': oddOutputsModel(kinds, hasLabel) })));
}

afterEach(() => engine?.destroy());

describe('an output that is a sequence or an optional', () => {
  it('is left out of the answers, of the first request too, whether or not outputs are named', async () => {
    await start(['sequence', 'optional']);
    const label = { type: 'float32', dims: [1, 2], data: Float32Array.of(-1, -2) };
    expect(await engine.run('m', feeds, { outputs: ['label'] })).toEqual({ label });
    expect(await engine.run('m', feeds)).toEqual({ label });
  });

  it('is INVALID_ARGUMENT when it is asked for by name, before and after the first load', async () => {
    await start(['sequence', 'optional']);
    const refusal = `INVALID_ARGUMENT: model "m": output "sequence" cannot be returned: ${SEQUENCE}; expected "label"`;
    for (const names of [['sequence'], ['label', 'sequence']]) {
      expect(await outcome(engine.run('m', feeds, { outputs: names }))).toBe(refusal);
    }
  });

  it('is told by inspect with its reason, and logged once, however many replicas load the model', async () => {
    await start(['sequence', 'optional']);
    await engine.models.load('m', { replicas: 'all' });
    await engine.models.unload('m');
    expect(await engine.models.inspect('m')).toMatchObject({
      outputs: [{ name: 'label', type: 'float32', shape: ['N', 2] }],
      omittedOutputs: [
        { name: 'sequence', reason: SEQUENCE },
        { name: 'optional', reason: SEQUENCE },
      ],
      whyNotBatched: undefined,
    });
    expect(logged.filter((line) => line.includes('left out'))).toEqual(['outputs are left out of all answers: m']);
  });

  it('refuses the model when there is no other', async () => {
    await start(['sequence', 'optional'], false);
    expect(await outcome(engine.run('m', feeds))).toBe(
      `MODEL_LOAD_FAILED: model "m": it has no output that can be returned: "sequence": ${SEQUENCE}; "optional": ${SEQUENCE}`,
    );
  });
});

it.each(['private', 'shared'])(
  'outputs that would end the process are never fetched, in batches, alone, or by a handler, with %s weights',
  (weights) => {
    const root = directory({ 'm.onnx': oddOutputsModel(['int4', 'uint4', 'sequence', 'optional']) });
    const args = [CHILD, join(root, 'm.onnx'), weights, join(root, 'store')];
    expect(JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 }))).toEqual({
      wrong: [],
      hasBatched: true,
      refused: new Array(4).fill('INVALID_ARGUMENT'),
      handled: { names: ['label'], omitted: ['int4', 'uint4', 'sequence', 'optional'], refused: 'INVALID_ARGUMENT' },
    });
  },
);

it('a model whose only output would end the process is refused', async () => {
  engine = await createEngine({ models: { m: { bytes: oddOutputsModel(['int4'], false) } }, replicas: 1 });
  expect(await outcome(engine.run('m', feeds))).toBe(
    'MODEL_LOAD_FAILED: model "m": it has no output that can be returned: "int4": it has type int4, which onnxruntime-node cannot carry',
  );
});
