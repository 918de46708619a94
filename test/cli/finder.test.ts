import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { directory } from '../support/directories.js';
import { infermux } from '../support/infermux.js';
import { scaleModel } from '../support/onnx-models.js';

const models = directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3), 'bad.onnx': 'no model' });

/** Writes a module whose finder finds the files of the directory. */
function moduleOf(exported: string): string {
  const path = join(directory(), 'finder.mjs');
  const find = `(id) => ['a', 'b', 'bad'].includes(id) ? ${JSON.stringify(models)} + '/' + id + '.onnx' : undefined`;
  writeFileSync(path, exported.replace('FIND', find));
  return path;
}

describe('infermux models --finder', () => {
  it('checks what the finder lists', async () => {
    const file = moduleOf("export default { find: FIND, list: () => ['a', 'b', 'bad', 'none'] };");
    const { code, stdout, stderr } = await infermux('models', 'check', '--finder', file, '--json');
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
    const report = JSON.parse(stdout);
    expect(report.finder).toBe(file);
    expect(report.models.map(({ id }: { id: string }) => id)).toEqual(['a', 'b', 'bad']);
    expect(report.problems).toEqual([
      { model: 'none', problem: 'no model "none": the finder has found none' },
      { model: 'bad@1', problem: expect.stringContaining('Protobuf parsing failed') },
    ]);
  }, 60_000);

  it('lists or checks the models that are named', async () => {
    const file = moduleOf('export const finder = { find: FIND };');
    for (const command of ['list', 'check']) {
      const { code, stdout } = await infermux('models', command, '--finder', file, 'b', '--json');
      expect([code, JSON.parse(stdout).models.map(({ id }: { id: string }) => id)]).toEqual([0, ['b']]);
    }
  }, 60_000);

  it.each([
    [['--finder', moduleOf('export const find = 1;')], 1, 'must export a finder, as its default or by the name finder'],
    [['--finder', '/none.mjs'], 1, 'could not be imported'],
    [['--finder', moduleOf('export default { find: FIND };')], 1, 'lists no models: name their ids'],
    [[], 2, 'give exactly one directory, or --finder'],
    [['a', 'b'], 2, 'give exactly one directory, or --finder'],
  ])('says what is wrong with %j', async (args, code, message) => {
    const result = await infermux('models', 'check', ...args);
    expect(result.code).toBe(code);
    expect(result.stderr).toContain(message);
  });
});
