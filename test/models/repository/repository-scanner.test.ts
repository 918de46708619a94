import { chmodSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { nameOf } from '../../../dist/models/registered-model.js';
import { RepositoryScanner } from '../../../dist/models/repository/repository-scanner.js';
import type { VersionPolicy } from '../../../dist/models/sources/manifest.js';
import { checkSources, type ModelSources, readSource } from '../../../dist/models/sources/model-sources.js';
import { directory, writeFiles } from '../../support/directories.js';
import { changeMode, writeLongAgo } from '../../support/file-times.js';
import { externalModel } from '../../support/onnx-models.js';

async function scan(root: string, policy: VersionPolicy = 'latest') {
  const { models, passedOver } = await new RepositoryScanner(root, policy).scan();
  const served = [...models.values()].flatMap((model) => model.served);
  return { models, passedOver, served, names: served.map(nameOf).sort() };
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
      '.hidden/model.onnx': '',
    });
    symlinkSync(join(root, 'plain.onnx'), join(root, 'link.onnx'));
    const { names, served, passedOver } = await scan(root, 'all');
    expect(names).toEqual(['folder@3', 'link@1', 'mobile@1', 'plain@1', 'versioned@1', 'versioned@12']);
    expect(served.find(({ id }) => id === 'plain')).toMatchObject({ bytes: 4, path: join(root, 'plain.onnx') });
    expect(served.find(({ id }) => id === 'folder')).toMatchObject({ licence: 'MIT', format: 'onnx' });
    expect(served.find(({ id }) => id === 'mobile')).toMatchObject({ format: 'ort' });
    expect([...passedOver.keys()].sort()).toEqual(['data', 'odd@name.onnx']);
  });

  it.each<[VersionPolicy, string[]]>([
    ['latest', ['m@12']],
    ['all', ['m@1', 'm@12', 'm@2']],
    [
      [2, 1, 7],
      ['m@1', 'm@2'],
    ],
  ])('serves the versions %j', async (policy, names) => {
    const files = { 'm/1/model.onnx': '', 'm/2/model.onnx': '', 'm/12/model.onnx': '' };
    expect((await scan(directory(files), policy)).names).toEqual(names);
    const own = directory({ ...files, 'm/model.json': JSON.stringify({ versions: policy }) });
    expect((await scan(own)).names).toEqual(names);
  });

  it('tells of all versions, also of those that it does not serve', async () => {
    const { models } = await scan(directory({ 'm/1/model.onnx': '', 'm/12/model.onnx': '' }));
    expect(models.get('m')).toMatchObject({ versions: [1, 12], problem: undefined });
  });

  it('reads what a model says of itself, and of all its versions', async () => {
    const hash = 'ab'.repeat(32);
    const root = directory({
      'a/model.onnx': '',
      'a/model.json': JSON.stringify({
        batching: { maxSize: 8 },
        session: { enableMemPattern: false },
        weights: 'shared',
        pinned: true,
        warmUp: [{ x: { dims: [1, 4] } }],
        sha256: hash.toUpperCase(),
      }),
      'b/model.json': '{ "batching": false, "versions": "all", "licence": "MIT" }',
      'b/1/model.onnx': '',
      'b/1/model.json': '{ "batching": "auto" }',
      'b/2/model.onnx': '',
    });
    const { served } = await scan(root);
    expect(served[0]).toMatchObject({
      ...{ batching: { maxSize: 8 }, session: { enableMemPattern: false }, weights: 'shared', isPinned: true },
      warmUp: [{ x: { dims: [1, 4] } }],
      sha256: { [join(root, 'a', 'model.onnx')]: hash },
    });
    expect(served.slice(1)).toMatchObject([
      { version: 1, batching: 'auto', licence: 'MIT' },
      { version: 2, batching: false, licence: 'MIT' },
    ]);
  });

  it('counts the external data of a model, and sees it change', async () => {
    const { model, weights } = externalModel('weights.bin');
    const root = directory({ 'a/model.onnx': model, 'a/weights.bin': weights });
    const scanner = new RepositoryScanner(root, 'latest');
    const read = async () => (await scanner.scan()).models.get('a')?.served[0];
    const first = await read();
    expect(first).toMatchObject({
      bytes: model.byteLength + weights.byteLength,
      externalData: [join(root, 'a', 'weights.bin')],
    });
    expect((await read())?.fingerprint).toBe(first?.fingerprint);
    writeFiles(root, { 'a/weights.bin': new Uint8Array(weights.byteLength + 1) });
    expect((await read())?.fingerprint).not.toBe(first?.fingerprint);
  });

  it('sees contents of the same size and mtime, of a manifest and of external data too', async () => {
    const { model, weights } = externalModel('weights.bin');
    const root = directory({ 'a/other-s.bin': weights });
    const put = (name: string, contents: Uint8Array | string) => writeLongAgo(join(root, 'a', name), contents);
    put('model.onnx', model);
    put('weights.bin', weights);
    put('model.json', '{ "licence": "a" }');
    const scanner = new RepositoryScanner(root, 'latest');
    const read = async () => (await scanner.scan()).models.get('a')?.served[0]?.fingerprint;
    const seen = [await read()];
    expect(await read()).toBe(seen[0]);
    put('model.json', '{ "licence": "b" }');
    seen.push(await read());
    put('weights.bin', new Uint8Array(weights.byteLength));
    seen.push(await read());
    put('model.onnx', externalModel('other-s.bin').model);
    seen.push(await read());
    expect(new Set(seen).size).toBe(4);
    for (const name of ['model.onnx', 'other-s.bin', 'model.json']) changeMode(join(root, 'a', name));
    expect(await read()).toBe(seen.at(-1));
  });

  it('names folders of digits that are no versions, also beside versions', async () => {
    const root = directory({
      'dated/20260101123045678/model.onnx': '',
      'both/2/model.onnx': '',
      'both/03/model.onnx': '',
      'both/0/model.ort': '',
      'both/007/pictures.txt': 'no model',
      'both/9007199254740991/model.onnx': '',
    });
    const { names, passedOver } = await scan(root);
    expect(names).toEqual(['both@9007199254740991']);
    expect([...passedOver.keys()].sort()).toEqual(['both/0', 'both/03', 'dated', 'dated/20260101123045678']);
    expect(passedOver.get('both/03')).toBe(
      'a version is an integer from 1 to 9007199254740991 without leading zeros: rename the folder, for instance to 3',
    );
  });

  it.skipIf(process.platform !== 'linux')(
    'takes no failed look for a finding, and knows its files afterwards',
    async () => {
      const { model, weights } = externalModel('weights.bin');
      const root = directory({ 'a/model.onnx': model, 'a/weights.bin': weights, 'new/readme.txt': '' });
      const scanner = new RepositoryScanner(root, 'latest');
      const before = (await scanner.scan()).models.get('a')?.served[0];
      // A file of the system that is there and cannot be read.
      symlinkSync('/proc/self/mem', join(root, 'a', 'model.json'));
      symlinkSync('/proc/self/mem', join(root, 'new', 'model.onnx'));
      const { models, passedOver } = await scanner.scan();
      for (const id of ['a', 'new'])
        expect(models.get(id)?.problem).toMatchObject({
          ...{ code: 'FAILED_PRECONDITION', retryable: true, message: expect.stringContaining('EIO') },
        });
      expect([...passedOver.keys()]).toEqual([]);
      rmSync(join(root, 'a', 'model.json'));
      changeMode(join(root, 'a', 'weights.bin'));
      expect((await scanner.scan()).models.get('a')?.served[0]?.fingerprint).toBe(before?.fingerprint);
    },
  );

  it.each([
    ['{ "batching": "on" }', "batching must be 'auto', false or"],
    ['{', 'is not JSON'],
    ['[]', 'must hold an object'],
    ['{ "version": 1.5 }', 'version must be a positive integer, got 1.5'],
    ['{ "sha256": "abc" }', 'sha256 must be 64 hexadecimal digits'],
    ['{ "warmUp": [{ "x": [1] }] }', 'warmUp must be a list of'],
    ['{ "warmUp": [{ "x": { "dims": [-1] } }] }', 'warmUp must be a list of'],
    ['{ "weights": "both" }', "weights must be 'auto', 'private' or 'shared'"],
    ['{ "pinned": 1 }', 'pinned must be true or false'],
    ['{ "session": [] }', 'session must be a plain object'],
    ['{ "session": { "executionProviders": [null] } }', 'session.executionProviders must be'],
    ['{ "session": { "intraOpNumThreads": 100000 } }', 'an integer from 0 to 1024'],
    ['{ "session": { "optimizedModelFilePath": "/tmp/x" } }', 'a model.json must not set "optimizedModelFilePath"'],
    ['{ "session": { "logId": "a\\nb" } }', 'a model.json must not set "logId"; it may set only executionProviders, '],
    ['{ "warmUp": [{ "x": { "dims": [1000000000] } }] }', 'at most 16777216 elements in each run'],
    ['{ "warmUp": [{ "x": { "dims": [9000000, 1] }, "y": { "dims": [9000000] } }] }', 'at most 16777216 elements'],
    [`{ "warmUp": [${Array(101).fill('{}')}] }`, 'a list of at most 100 of'],
    ['{ "batching": { "maxWaitMs": 100000 } }', 'batching.maxWaitMs must be at most 60000, got 100000'],
    ['{ "batching": { "maxSize": 100000 } }', 'batching.maxSize must be at most 65536, got 100000'],
    [`{ "session": { "extra": ${'{"a":'.repeat(6_000)}1${'}'.repeat(6_000)} } }`, 'a model.json must not set'],
    [`{ "sha256": { "../../etc/passwd": "${'ab'.repeat(32)}" } }`, 'which is not in its folder'],
    [`{ "sha256": { "/dev/zero": "${'ab'.repeat(32)}" } }`, 'which is not in its folder'],
    ['{ "licence": "" }', 'licence must be a non-empty string'],
  ])('has a problem with the manifest %j, and serves the other models', async (manifest, message) => {
    const { models, names } = await scan(
      directory({ 'a/model.onnx': '', 'a/model.json': manifest, 'b/model.onnx': '' }),
    );
    expect(names).toEqual(['b@1']);
    expect(models.get('a')?.problem).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(models.get('a')?.problem?.message).toContain(message);
    expect(models.get('a')?.problem?.message).toMatch(/a\/model\.(json|onnx)/);
  });

  it('has a problem with a manifest that is too large, or nested without end, and serves the other models', async () => {
    const { models, names } = await scan(
      directory({
        ...{ 'a/model.onnx': '', 'a/model.json': `{ "licence": "${'x'.repeat(2 ** 20)}" }` },
        ...{ 'b/model.onnx': '', 'b/model.json': `${'['.repeat(200_000)}${']'.repeat(200_000)}` },
        'c/model.onnx': '',
      }),
    );
    expect(names).toEqual(['c@1']);
    const problemOf = (id: string) => models.get(id)?.problem?.message;
    expect(problemOf('a')).toContain('a/model.json must have at most 1048576 bytes, got 1048593');
    expect(problemOf('b')).toContain('b/model.json must hold an object');
  });

  it.each<[VersionPolicy, string[], number[], string | undefined]>([
    ['latest', ['a@3'], [], undefined],
    ['all', ['a@1', 'a@3'], [2], undefined],
    [[1, 2], ['a@1'], [2], undefined],
    [[2], [], [], 'INVALID_ARGUMENT'],
  ])(
    'by the policy %j has a version with a bad manifest matter to that version alone',
    async (policy, names, broken, code) => {
      const root = directory({
        'a/1/model.onnx': '',
        'a/2/model.onnx': '',
        'a/2/model.json': '{',
        'a/3/model.onnx': '',
      });
      const found = await scan(root, policy);
      const model = found.models.get('a');
      expect([found.names, model?.broken?.map(({ version }) => version) ?? [], model?.problem?.code]).toEqual([
        ...[names, broken, code],
      ]);
      expect(model?.broken?.every(({ problem }) => problem.code === 'INVALID_ARGUMENT') ?? true).toBe(true);
    },
  );

  it('names links that lead nowhere, and no other files', async () => {
    const root = directory({ 'a.onnx': '', 'README.md': 'no model' });
    for (const name of ['b', 'c.onnx']) symlinkSync('/nowhere', join(root, name));
    expect([...(await scan(root)).passedOver.keys()].sort()).toEqual(['b', 'c.onnx']);
  });

  it('has a problem with a model that is there twice, naming both files', async () => {
    const root = directory({ 'a.onnx': '', 'a/model.onnx': '' });
    const { problem } = (await scan(root)).models.get('a') ?? {};
    expect(problem?.code).toBe('MODEL_ALREADY_EXISTS');
    expect(problem?.message).toContain(`${join(root, 'a', 'model.onnx')} and ${join(root, 'a.onnx')}`);
  });

  it('has a problem with versions of which none is there', async () => {
    const { models } = await scan(directory({ 'a/2/model.onnx': '', 'a/model.json': '{ "versions": [3] }' }));
    expect(models.get('a')?.problem?.message).toContain('none of the versions to serve, [ 3 ], exists; found: 2');
  });

  it('has a problem with external data that is not there', async () => {
    const { models } = await scan(directory({ 'a/model.onnx': externalModel('weights.bin').model }));
    expect(models.get('a')?.problem).toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(models.get('a')?.problem?.message).toContain('weights.bin');
  });

  it.skipIf(process.getuid?.() === 0)('has a problem with a folder that cannot be read: it is not gone', async () => {
    const root = directory({ 'a/model.onnx': '', 'b.onnx': '' });
    chmodSync(join(root, 'a'), 0);
    const { models } = await scan(root);
    chmodSync(join(root, 'a'), 0o700);
    expect(models.get('a')?.problem).toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(models.get('b')?.problem).toBeUndefined();
  });

  it('that is not there is a failed precondition', async () => {
    await expect(scan('/nowhere/at/all')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
  });
});

const readModels = async (sources: ModelSources) =>
  Promise.all(Object.entries(checkSources('models', sources)).map(([id, source]) => readSource(id, source)));

describe('models by id', () => {
  it('are files with their version, or bytes', async () => {
    const root = directory({ 'a.onnx': '', 'b.onnx': '' });
    const models = await readModels({
      a: join(root, 'a.onnx'),
      b: { path: join(root, 'b.onnx'), version: 2, pinned: true },
      c: Uint8Array.of(1, 2, 3),
      d: { bytes: new TextEncoder().encode('....ORTM') },
    });
    expect(models.map(nameOf)).toEqual(['a@1', 'b@2', 'c@1', 'd@1']);
    expect(models.map(({ isPinned }) => isPinned)).toEqual([false, true, false, false]);
    expect(models[2]).toMatchObject({ bytes: 3, format: 'onnx', path: 'c (in memory)' });
    expect(new Uint8Array(models[2]?.contents as SharedArrayBuffer)).toEqual(Uint8Array.of(1, 2, 3));
    expect(models[3]?.format).toBe('ort');
  });

  it.each([
    [{ a: '/nowhere/a.onnx' }, 'FAILED_PRECONDITION', 'model "a": ENOENT'],
    [{ a: tmpdir() }, 'FAILED_PRECONDITION', 'is not a file'],
  ])('%j is refused', async (sources, code, message) => {
    await expect(readModels(sources)).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });
});
