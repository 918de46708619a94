import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeModel } from '../../../native-models/build/onnx.js';
import type { BenchModel } from '../models.js';

export type PictureId = 'mean-224' | 'mean-640' | 'mean-1280' | 'relu-640';

const MEAN = { opType: 'ReduceMean', attributes: { axes: [1, 2, 3], keepdims: 0 } };
const RELU = { opType: 'Relu' };

const RECIPES = [
  { id: 'mean-224', operator: MEAN, side: 224 },
  { id: 'mean-640', operator: MEAN, side: 640 },
  { id: 'mean-1280', operator: MEAN, side: 1_280 },
  { id: 'relu-640', operator: RELU, side: 640 },
] as const;

/**
 * Writes models of one operator on a picture, so that only the way of the picture counts: its mean, and one whose output
 * is as large as the picture.
 */
export function writePictureModels(folder: string): BenchModel[] {
  return RECIPES.map(({ id, operator, side }) => {
    const picture = [3, side, side];
    const path = join(folder, id, 'model.onnx');
    mkdirSync(join(folder, id));
    const bytes = encodeModel({
      name: id,
      nodes: [{ ...operator, input: ['x'], output: ['y'] }],
      initializers: [],
      inputs: [{ name: 'x', dims: ['N', ...picture] }],
      outputs: [{ name: 'y', dims: operator === RELU ? ['N', ...picture] : ['N'] }],
    });
    writeFileSync(path, bytes);
    const name = `3×${side}×${side}`;
    const title = operator === RELU ? `Relu of ${name}` : name;
    return { id, title, path, input: 'x', output: 'y', dims: [1, ...picture], batchable: true };
  });
}
