import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

const CHILD = fileURLToPath(new URL('../support/memory-child.mjs', import.meta.url));

it('leaves next to nothing of a request in the old generation, where only a full collection would find it', () => {
  const model = join(modelDirectory({ model: scaleModel(2) }), 'model.onnx');
  const flags = ['--expose-gc', '--max-semi-space-size=1'];
  const bytes = Number(execFileSync(process.execPath, [...flags, CHILD, model], { encoding: 'utf8', timeout: 20_000 }));
  // With a Map of what a replica was asked it is 465, as each outgrown table of a Map holds on to the next.
  expect(bytes).toBeLessThan(150);
});
