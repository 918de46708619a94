import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { directory } from '../../support/directories.js';
import { modelDirectory, scaleModel } from '../../support/onnx-models.js';

const support = (file: string) => new URL(`../../support/${file}`, import.meta.url);

it('an engine works under --frozen-intrinsics', () => {
  const path = join(modelDirectory({ double: scaleModel(2) }), 'double.onnx');
  const child = fileURLToPath(support('frozen-child.mjs'));
  const args = ['--frozen-intrinsics', '--no-warnings', child, path, support('handler.mjs').href, directory()];
  const told = execFileSync(process.execPath, args, { encoding: 'utf8' });
  expect(JSON.parse(told)).toEqual({ sums: ['2,4,6,8'], handled: 'hello', refused: 'MODEL_NOT_FOUND', metrics: true });
});
