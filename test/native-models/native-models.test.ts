import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readDigits } from '../../dist/cli/demo/digits.js';
import { createEngine } from '../../dist/index.js';
import { buildModel, RECIPES } from '../../native-models/build/models.js';

const folder = (id: string) => new URL(`../../native-models/${id}/`, import.meta.url);
const manifestOf = (id: string) => JSON.parse(readFileSync(new URL('model.json', folder(id)), 'utf8'));

describe.each(RECIPES)('native model $id', ({ id, requiredAccuracy, output }) => {
  it('has a manifest that tells the truth about its file', () => {
    const manifest = manifestOf(id);
    const sha256 = createHash('sha256')
      .update(readFileSync(new URL('model.onnx', folder(id))))
      .digest('hex');
    expect(manifest).toMatchObject({
      id,
      version: 1,
      sha256,
      licence: 'MIT',
      inputs: [{ name: 'image', type: 'float32', shape: ['N', 64] }],
      outputs: [{ name: output.name, type: 'float32', shape: ['N', output.width] }],
      madeBy: expect.objectContaining({ command: 'npm run build:models' }),
    });
    expect(manifest.accuracy.unseen).toBeGreaterThanOrEqual(requiredAccuracy);
    expect(existsSync(new URL('LICENSE', folder(id)))).toBe(true);
  });
});

it('a rebuild gives the same bytes', () => {
  const recipe = RECIPES.find(({ id }) => id === 'digit-3');
  if (recipe === undefined) throw new Error('no such recipe');
  const { onnx, manifest } = buildModel(recipe, readDigits());
  expect(Buffer.compare(onnx, readFileSync(new URL('model.onnx', folder(recipe.id))))).toBe(0);
  expect(JSON.parse(JSON.stringify(manifest))).toEqual(manifestOf(recipe.id));
}, 60_000);

it('takes any number of rows at once, and answers each as if it were alone', async () => {
  const engine = await createEngine({ models: folder(''), replicas: 1, maxModelsPerReplica: -1 });
  try {
    const digits = readDigits().slice(0, 5);
    for (const { id, output } of RECIPES) {
      const data = Float32Array.from(digits.flatMap(({ pixels }) => [...pixels]));
      const together = await engine.run(id, { image: { dims: [5, 64], data } });
      const alone = await Promise.all(
        digits.map(({ pixels }) => engine.run(id, { image: { dims: [1, 64], data: pixels } })),
      );
      const joined = alone.flatMap((outputs) => Array.from(outputs[output.name]?.data as Float32Array));
      expect(together[output.name]?.dims).toEqual([5, output.width]);
      for (const [index, value] of joined.entries()) {
        expect(together[output.name]?.data[index]).toBeCloseTo(value, 5);
      }
    }
  } finally {
    await engine.close();
  }
});
