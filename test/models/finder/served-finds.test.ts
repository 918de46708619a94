import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { CacheThread } from '../../../dist/models/cache/thread/cache-thread.js';
import { ServedFinds } from '../../../dist/models/finder/found/served-finds.js';
import { ModelCatalog } from '../../../dist/models/model-catalog.js';
import type { FoundModel } from '../../../dist/models/registered-model.js';
import { directory } from '../../support/directories.js';

it('a model whose files were gone stays lost when they are back, for the model in its place', () => {
  const path = join(directory({ 'model.onnx': 'a model' }), 'model.onnx');
  const catalog = new ModelCatalog(() => undefined);
  const followed = { open: async () => undefined, refresh: async () => undefined, close: () => undefined };
  const served = new ServedFinds({ folderOf: () => undefined } as unknown as CacheThread, {
    catalog,
    follow: () => followed as never,
    isInUse: () => false,
    retired: async () => undefined,
  });
  const found = { id: 'm', version: 1, path, bytes: 7, fingerprint: '', isFound: true } as unknown as FoundModel;
  const put = () => {
    const model = catalog.register(found);
    catalog.put({ id: 'm', served: [model], versions: [1], standsFor: 1, problem: undefined, owner: 'finder' });
    return model;
  };
  const [first, other] = [put(), catalog.register(found)];
  expect(served.insteadOf(first)).toBe(undefined);
  rmSync(path);
  // It is withdrawn when what follows the finder has had its turn.
  expect(served.insteadOf(first)).toBe('m');
  catalog.remove('m');
  writeFileSync(path, 'a model');
  expect(served.insteadOf(first)).toBe('m');
  expect(served.insteadOf(other)).toBe(undefined);
  const second = put();
  expect(served.insteadOf(first)).toBe(second);
  expect(served.insteadOf(second)).toBe(undefined);
});
