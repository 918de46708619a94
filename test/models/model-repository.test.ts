import { mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ModelCatalog } from '../../dist/models/model-catalog.js';
import { readSources, scanDirectory } from '../../dist/models/model-repository.js';

function directory(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'infermux-repository-'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(root, name, '..'), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

describe('a directory', () => {
  it('holds models as files, in folders, and in folders of versions', async () => {
    const root = directory({
      'plain.onnx': 'four',
      'mobile.ort': '',
      'folder/model.onnx': '',
      'folder/model.json': '\uFEFF{ "version": 3, "licence": "MIT" }',
      'versioned/1/model.onnx': '',
      'versioned/12/model.onnx': '',
      'versioned/latest/model.onnx': '',
      'data/readme.txt': 'no model',
      'notes.txt': 'no model',
      'odd@name.onnx': 'cannot be asked for',
    });
    symlinkSync(join(root, 'plain.onnx'), join(root, 'link.onnx'));
    const models = await scanDirectory(root);
    expect(models.map(({ key }) => key).sort()).toEqual(
      ['folder@3', 'link@1', 'mobile@1', 'plain@1', 'versioned@1', 'versioned@12'].sort(),
    );
    expect(models.find(({ id }) => id === 'plain')).toMatchObject({ bytes: 4, path: join(root, 'plain.onnx') });
  });

  it('reads how a model is batched, also for each version', async () => {
    const root = directory({
      'a/model.onnx': '',
      'a/model.json': '{ "batching": { "maxSize": 8 } }',
      'b/1/model.onnx': '',
      'b/1/model.json': '{ "batching": false }',
      'b/2/model.onnx': '',
    });
    const models = await scanDirectory(root);
    expect(models.map(({ key, batching }) => [key, batching])).toEqual([
      ['a@1', { maxSize: 8 }],
      ['b@1', false],
      ['b@2', undefined],
    ]);
  });

  it.each([
    ['{ "batching": "on" }', "batching must be 'auto', false or"],
    ['{', 'is not JSON'],
    ['[]', 'must hold an object'],
    ['{ "version": 1.5 }', 'version must be a positive integer, got 1.5'],
  ])('with the manifest %j is refused', async (manifest, message) => {
    const root = directory({ 'a/model.onnx': '', 'a/model.json': manifest });
    const scan = scanDirectory(root);
    await expect(scan).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) });
    await expect(scan).rejects.toThrow('a/model.json');
  });

  it('that is not there is a failed precondition', async () => {
    await expect(scanDirectory('/nowhere/at/all')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
  });
});

describe('models by id', () => {
  it('are registered with their version', async () => {
    const root = directory({ 'a.onnx': '', 'b.onnx': '' });
    const models = await readSources({ a: join(root, 'a.onnx'), b: { path: join(root, 'b.onnx'), version: 2 } });
    expect(models.map(({ key }) => key)).toEqual(['a@1', 'b@2']);
  });

  it.each([
    [{ a: '/nowhere/a.onnx' }, 'FAILED_PRECONDITION', 'model "a": ENOENT'],
    [{ a: tmpdir() }, 'FAILED_PRECONDITION', 'is not a file'],
    [{ 'a@2': '/a.onnx' }, 'INVALID_ARGUMENT', 'an id must not be empty or hold "@", got "a@2"'],
  ])('%j is refused', async (sources, code, message) => {
    await expect(readSources(sources)).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });
});

describe('the catalog', () => {
  const model = (id: string, version: number, path = `/${id}/${version}`) => ({
    id,
    version,
    key: `${id}@${version}`,
    path,
    bytes: 1,
  });

  it('resolves an id to its latest version, and id@version to that one', () => {
    const catalog = new ModelCatalog([model('a', 2), model('a', 10), model('a', 9)]);
    expect(catalog.resolve('a').version).toBe(10);
    expect(catalog.resolve('a@9').version).toBe(9);
  });

  it('names what there is when it knows no such model', () => {
    const catalog = new ModelCatalog([model('a', 2), model('b', 1)]);
    expect(() => catalog.resolve('a@3')).toThrow('no model "a@3"; versions of "a": 2');
    expect(() => catalog.resolve('c')).toThrow('no model "c"; known models: "a", "b"');
    expect(() => new ModelCatalog([]).resolve('c')).toThrow('known models: none');
  });

  it('refuses the same model twice, naming both files', () => {
    expect(() => new ModelCatalog([model('a', 1, '/a.onnx'), model('a', 1, '/a/model.onnx')])).toThrow(
      'a@1 is there twice, as /a.onnx and /a/model.onnx',
    );
  });
});
