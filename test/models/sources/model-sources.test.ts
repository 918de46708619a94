import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readModelSource } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';

const manifest = { version: 3, batching: { maxSize: 4 }, session: { intraOpNumThreads: 1 }, weights: 'shared' };
const none = { version: undefined, batching: undefined, session: undefined, weights: undefined };

describe('the source of one file', () => {
  it('has the settings of the manifest beside a file that is named by its folder', async () => {
    const root = directory({
      'm/model.onnx': 'not read',
      'm/model.json': JSON.stringify({ ...manifest, licence: 'MIT', pinned: true }),
      'plain/model.ort': 'not read',
      'm/other.onnx': 'not read',
    });
    const path = join(root, 'm', 'model.onnx');
    expect(await readModelSource(path)).toEqual({ path, ...manifest });
    const plain = join(root, 'plain', 'model.ort');
    expect(await readModelSource(plain)).toEqual({ path: plain, ...none });
    const other = join(root, 'm', 'other.onnx');
    expect(await readModelSource(other)).toEqual({ path: other });
  });

  it('is refused where the manifest is bad', async () => {
    const root = directory({ 'm/model.onnx': '', 'm/model.json': '{ "version": 0 }' });
    await expect(readModelSource(join(root, 'm', 'model.onnx'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
