import { mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Clock, systemClock } from '../../../dist/common/clock.js';
import { InfermuxError } from '../../../dist/common/errors.js';
import { ModelCatalog } from '../../../dist/models/model-catalog.js';
import { ModelLoader } from '../../../dist/models/model-loader.js';
import { RepositoryScanner } from '../../../dist/models/repository/repository-scanner.js';
import { RepositorySync, type SyncReport } from '../../../dist/models/repository/repository-sync.js';
import { directory, writeFiles } from '../../support/directories.js';
import { FakeModelReplicas, gate } from '../../support/fakes/fake-model-replicas.js';
import { until } from '../../support/until.js';

let root: string;
let replicas: FakeModelReplicas;
let catalog: ModelCatalog;
let sync: RepositorySync;
let story: string[];
/** What happens while a look waits for files to settle. */
let meanwhile: () => void;

/** Lets no time pass, but what happens in it. */
const clock: Clock = {
  ...systemClock,
  schedule: (callback) => {
    meanwhile();
    queueMicrotask(callback);
    return () => undefined;
  },
};

function start(files: Readonly<Record<string, string>>, settleMs = 0): void {
  root = directory(files);
  replicas = new FakeModelReplicas(2);
  catalog = new ModelCatalog();
  story = [];
  meanwhile = () => undefined;
  replicas.loaded = ({ key }) => catalog.setMetadata(key, { inputs: [], outputs: [], omittedOutputs: [] });
  const loader = new ModelLoader(replicas, clock);
  const scanner = new RepositoryScanner(root, 'latest');
  sync = new RepositorySync(
    { owner: 'directory', scanner, settleMs },
    { catalog, loader, replicas, clock },
    {
      served: (id, change) => story.push(`${id} ${change}`),
      removed: (id) => story.push(`${id} removed`),
      failed: (id, { message }) => story.push(`${id}: ${message}`),
      postponed: (id, { message }) => story.push(`${id} later: ${message}`),
      notLoaded: (id, { message }) => story.push(`${id} not loaded: ${message}`),
      emptied: () => story.push('emptied'),
      unsettled: () => undefined,
      forgotten: (key) => story.push(`${key} forgotten`),
    },
  );
}

const look = (load = false): Promise<SyncReport> => sync.sync({ wait: true, load });
const nothing: SyncReport = { added: [], changed: [], removed: [], unsettled: [], failed: [], passedOver: {} };

beforeEach(() => start({ 'a/model.onnx': 'one', 'b.onnx': 'b' }));

describe('a look at the directory', () => {
  it('finds what is new, and nothing the second time', async () => {
    expect(await look()).toEqual({ ...nothing, added: ['a', 'b'] });
    expect(await look()).toEqual(nothing);
    expect(catalog.models.map(({ key }) => key)).toEqual(['a@1', 'b@1']);
    expect(replicas.log).toEqual([]);
  });

  it('tells names that look like models and are none, with the reason, as long as they are there', async () => {
    writeFiles(root, { 'odd@name.onnx': '', 'notes/readme.txt': '', 'readme.txt': '' });
    const { added, passedOver } = await look();
    expect(added).toEqual(['a', 'b']);
    expect(passedOver).toEqual({
      'odd@name.onnx': expect.stringContaining('must not contain "@"'),
      notes: expect.stringContaining('no model.onnx or model.ort'),
    });
    rmSync(join(root, 'odd@name.onnx'));
    expect(Object.keys((await look()).passedOver)).toEqual(['notes']);
  });

  it('loads what is new when it is told to', async () => {
    await look(true);
    expect(replicas.log).toEqual(['r0 loads a@1', 'r1 loads b@1']);
  });

  it('unloads what is gone, after its last request', async () => {
    await look(true);
    const { opened, open } = gate();
    replicas.inUse.set('b@1', opened);
    rmSync(join(root, 'b.onnx'));
    const looked = look();
    await until(() => story.includes('b removed'));
    expect(catalog.find('b')).toBeUndefined();
    expect(replicas.log).not.toContain('r1 unloads b@1 unloaded');
    open();
    expect(await looked).toEqual({ ...nothing, removed: ['b'] });
    expect(replicas.log).toContain('r1 unloads b@1 unloaded');
    expect([replicas.forgotten, catalog.byKey('b@1')]).toEqual([['b@1'], undefined]);
  });

  it('replaces what has changed, once the new one is loaded', async () => {
    await look(true);
    const { opened, open } = gate();
    replicas.gates.set('a', opened);
    writeFiles(root, { 'a/model.onnx': 'another' });
    const looked = look();
    await until(() => replicas.log.includes('r0 loads a@1#2 for a@1'));
    expect(catalog.resolve('a').key).toBe('a@1');
    open();
    expect(await looked).toEqual({ ...nothing, changed: ['a'] });
    expect(catalog.resolve('a').key).toBe('a@1#2');
    expect(replicas.log.at(-1)).toBe('r0 unloads a@1 replaced');
  });

  it('replaces what nobody has used once it is known to load, and does not leave it loaded', async () => {
    await look();
    writeFiles(root, { 'a/model.onnx': 'another' });
    await look();
    const tried = ['r0 tries a@1#2', 'r0 unloads a@1#2 unloaded'];
    expect([catalog.resolve('a').key, replicas.log]).toEqual(['a@1#2', tried]);
  });

  it('keeps what was there when the new one does not load, says so once, and does not try all the time', async () => {
    await look(true);
    replicas.fail('a', 99);
    writeFiles(root, { 'a/model.onnx': 'broken' });
    for (let time = 0; time < 3; time += 1) expect((await look()).failed).toMatchObject([{ id: 'a' }]);
    expect(catalog.resolve('a').key).toBe('a@1');
    expect(replicas.log.filter((line) => line.includes('#2'))).toHaveLength(1);
    expect(story.filter((line) => line === 'a: a is broken')).toHaveLength(1);
    expect(catalog.entry('a')?.problem?.message).toBe('a is broken');
    replicas.failures.clear();
    writeFiles(root, { 'a/model.onnx': 'mended and longer' });
    expect(await look()).toEqual({ ...nothing, changed: ['a'] });
    expect([catalog.resolve('a').key, catalog.entry('a')?.problem]).toEqual(['a@1#3', undefined]);
    expect(replicas.forgotten).toEqual(['a@1#2', 'a@1']);
  });

  it('loads a new version before the old one leaves, and keeps the old one if it does not load', async () => {
    start({ 'a/1/model.onnx': 'one' });
    await look(true);
    replicas.fail('a', 1);
    writeFiles(root, { 'a/2/model.onnx': 'two' });
    expect((await look()).failed).toMatchObject([{ id: 'a' }]);
    expect(catalog.resolve('a').version).toBe(1);
    writeFiles(root, { 'a/3/model.onnx': 'three' });
    await look();
    expect([catalog.resolve('a').version, catalog.find('a@1')]).toEqual([3, undefined]);
    expect(replicas.log.slice(-2)).toEqual(['r0 loads a@3 for a@1', 'r0 unloads a@1 replaced']);
  });

  it('serves the versions that load, and for one that does not what was there', async () => {
    start({ 'a/model.json': '{ "versions": "all" }', 'a/1/model.onnx': 'one', 'a/2/model.onnx': 'two' });
    await look(true);
    replicas.failures.set('a', [undefined, new InfermuxError('MODEL_LOAD_FAILED', 'a is broken')]);
    writeFiles(root, { 'a/1/model.onnx': 'another one', 'a/2/model.onnx': 'broken' });
    expect((await look()).failed).toMatchObject([{ id: 'a', error: { message: 'a is broken' } }]);
    expect(catalog.entry('a')?.served.map(({ key }) => key)).toEqual(['a@1#2', 'a@2']);
    rmSync(join(root, 'a'), { recursive: true });
    await look();
    await look();
    await until(() => replicas.all.every(({ models }) => ![...models.keys()].some((key) => key.startsWith('a@'))));
    expect(replicas.forgotten).toHaveLength(4);
  });

  it('loads a new version before it replaces one that nobody has used, whatever the policy and the order', async () => {
    for (const [versions, load] of [
      ['"latest"', false],
      ['"all"', true],
      ['[1, 2, 3]', false],
    ] as const) {
      start({ 'a/model.json': `{ "versions": ${versions} }`, 'a/1/model.onnx': 'one' });
      await look();
      replicas.fail('a', 1);
      writeFiles(root, { 'a/2/model.onnx': 'broken' });
      expect(await look(load)).toMatchObject({ changed: [], failed: [{ id: 'a', error: { message: 'a is broken' } }] });
      expect([catalog.resolve('a').version, catalog.find('a@2')]).toEqual([1, undefined]);
    }
  });

  it('lets no untried version become what the id stands for', async () => {
    start({ 'a/model.json': '{ "versions": [1] }', 'a/1/model.onnx': 'one' });
    await look();
    writeFiles(root, { 'a/model.json': '{ "versions": [2, 3] }', 'a/2/model.onnx': 'two', 'a/3/model.onnx': 'three' });
    replicas.fail('a', 2);
    expect((await look()).failed).toMatchObject([{ id: 'a' }]);
    expect(catalog.entry('a')?.served.map(({ key }) => key)).toEqual(['a@1']);
  });

  it('keeps what is served while no replica can try the new one, and says so; that is no failure of the model', async () => {
    await look();
    const running = replicas.all.splice(0);
    writeFiles(root, { 'a/model.onnx': 'another' });
    for (let time = 0; time < 2; time += 1) {
      const { changed, failed, unsettled } = await look();
      expect([changed, unsettled]).toEqual([[], ['a']]);
      expect(failed).toMatchObject([{ id: 'a', error: { code: 'REPLICA_FAILED', retryable: true } }]);
      expect(catalog.resolve('a').key).toBe('a@1');
    }
    expect(story.filter((line) => line.startsWith('a later: '))).toHaveLength(1);
    replicas.all.push(...running);
    expect(await look()).toEqual({ ...nothing, changed: ['a'] });
    expect([catalog.resolve('a').key, catalog.entry('a')?.problem]).toEqual(['a@1#2', undefined]);
  });

  it.each([
    new InfermuxError('REPLICA_FAILED', 'it died'),
    new InfermuxError('MODEL_LOAD_FAILED', 'not now', { retryable: true, retryAfterMs: 5 }),
    new InfermuxError('ENGINE_CLOSED', 'closing'),
  ])('does not hold $code: $message against the model', async (error) => {
    await look(true);
    replicas.failures.set('a', [error]);
    writeFiles(root, { 'a/model.onnx': 'another' });
    expect(await look()).toMatchObject({ unsettled: ['a'], failed: [{ id: 'a', error: { code: error.code } }] });
    expect(await look()).toEqual({ ...nothing, changed: ['a'] });
  });

  it('replaces one that does not load by one that does, and by no other that does not', async () => {
    replicas.fail('a', 2);
    await look(true);
    writeFiles(root, { 'a/model.onnx': 'broken too' });
    expect(await look()).toMatchObject({ changed: [], failed: [{ id: 'a' }] });
    expect(catalog.resolve('a').key).toBe('a@1');
    writeFiles(root, { 'a/model.onnx': 'one that works' });
    expect(await look()).toMatchObject({ changed: ['a'], failed: [] });
    expect(catalog.resolve('a').key).toBe('a@1#3');
  });

  it('takes the version below one that is withdrawn, even if it does not load, and no untried one above', async () => {
    start({ 'a/1/model.onnx': 'one', 'a/2/model.onnx': 'two' });
    await look();
    replicas.fail('a', 9);
    await sync.withdraw('a', 2, async () => rmSync(join(root, 'a', '2'), { recursive: true }));
    expect(catalog.resolve('a').version).toBe(1);
    writeFiles(root, { 'a/3/model.onnx': 'three', 'a/4/model.onnx': 'four' });
    await look();
    await sync.withdraw('a', 4, async () => rmSync(join(root, 'a', '4'), { recursive: true })).catch(() => undefined);
    expect(catalog.resolve('a').version).toBe(1);
  });

  it('goes on with a version that works when another is withdrawn, whatever problem a third has', async () => {
    start({ 'a/model.json': '{ "versions": "all" }', 'a/1/model.onnx': 'one', 'a/2/model.onnx': 'two' });
    await look();
    writeFiles(root, { 'a/3/model.onnx': 'three', 'a/3/model.json': '{' });
    await look();
    await sync.withdraw('a', 2, async () => rmSync(join(root, 'a', '2'), { recursive: true }));
    expect(catalog.entry('a')?.served.map(({ key }) => key)).toEqual(['a@1']);
    expect([catalog.entry('a')?.problem?.code, replicas.forgotten]).toEqual(['INVALID_ARGUMENT', ['a@2']]);
  });

  it('says of a model that is served and did not load just that', async () => {
    start({ 'a/model.onnx': 'one' });
    replicas.fail('a', 1);
    expect(await look(true)).toMatchObject({ added: ['a'], unsettled: [], failed: [{ id: 'a' }] });
    expect([story, catalog.resolve('a').key]).toEqual([['a added', 'a not loaded: a is broken'], 'a@1']);
  });

  it('hands out a report that does not change any more', async () => {
    await look(true);
    const { opened, open } = gate();
    replicas.gates.set('a', opened);
    writeFiles(root, { 'a/model.onnx': 'another' });
    const report = await sync.sync({ wait: false, load: false });
    open();
    await until(() => catalog.resolve('a').key !== 'a@1');
    await look();
    expect(report).toEqual(nothing);
  });

  it('removes nothing when all is gone at once, until a later look finds the same', async () => {
    await look();
    renameSync(root, `${root}-elsewhere`);
    mkdirSync(join(root, '.hidden'), { recursive: true });
    expect(await look()).toEqual({ ...nothing, unsettled: ['a', 'b'] });
    rmSync(root, { recursive: true });
    renameSync(`${root}-elsewhere`, root);
    expect(await look()).toEqual(nothing);
    rmSync(join(root, 'a'), { recursive: true });
    rmSync(join(root, 'b.onnx'));
    expect(await look()).toMatchObject({ removed: [], unsettled: ['a', 'b'] });
    expect(catalog.models).toHaveLength(2);
    expect(await look()).toEqual({ ...nothing, removed: ['a', 'b'] });
    expect(story.filter((line) => line === 'emptied')).toHaveLength(2);
  });

  it.skipIf(process.platform !== 'linux')(
    'changes nothing for what the system cannot answer, and says so',
    async () => {
      await look();
      symlinkSync('/proc/self/mem', join(root, 'a', 'model.json'));
      symlinkSync('/proc/self/mem', join(root, 'new.onnx'));
      for (let time = 0; time < 2; time += 1) {
        const { added, changed, removed, unsettled, failed, passedOver } = await look();
        expect([added, changed, removed, passedOver, unsettled.toSorted()]).toEqual([[], [], [], {}, ['a', 'new']]);
        expect(failed.map(({ id, error }) => [id, error.retryable]).toSorted()).toEqual([
          ['a', true],
          ['new', true],
        ]);
      }
      expect(story.filter((line) => line.includes('later'))).toHaveLength(2);
      expect([catalog.resolve('a').key, catalog.entry('a')?.problem]).toEqual(['a@1', undefined]);
      expect(() => catalog.resolve('new')).toThrow(
        expect.objectContaining({ code: 'MODEL_LOAD_FAILED', retryable: true }),
      );
      await expect(sync.withdraw('a', 7, async () => expect.fail('nothing is removed'))).rejects.toThrow('EIO');
      expect(catalog.resolve('a').key).toBe('a@1');
      rmSync(join(root, 'a', 'model.json'));
      rmSync(join(root, 'new.onnx'));
      writeFiles(root, { 'new.onnx': 'new' });
      await look();
      expect([catalog.resolve('a').key, catalog.resolve('new').key]).toEqual(['a@1', 'new@1']);
    },
  );

  it('does one thing after the other to a model, and leaves no session behind', async () => {
    await look(true);
    const looks = [1, 2, 3].map((time) => {
      writeFiles(root, { 'a/model.onnx': 'x'.repeat(10 + time) });
      return look();
    });
    await Promise.all(looks);
    await look();
    const keys = replicas.all.flatMap(({ models }) => [...models.keys()].filter((key) => key.startsWith('a@')));
    expect(new Set(keys)).toEqual(new Set([catalog.resolve('a').key]));
  });

  it('is not fooled by what it saw before a deploy or an undeploy was done', async () => {
    await look();
    // Seen by the look before, done while it waits for files to settle.
    start({ 'a/model.onnx': 'one', 'new/model.onnx': 'new' }, 60_000);
    let isFirst = true;
    const { opened, open } = gate();
    meanwhile = () => {
      if (!isFirst) return;
      isFirst = false;
      writeFiles(root, { 'late/model.onnx': 'late' });
      void sync
        .refresh('late')
        .then(() => sync.withdraw('a', undefined, async () => rmSync(join(root, 'a'), { recursive: true })))
        .then(open);
    };
    const looked = look();
    await opened;
    await looked;
    expect([catalog.find('a'), catalog.find('late')?.key]).toEqual([undefined, 'late@1']);
  });

  it('goes back to an older version when the newest is removed', async () => {
    start({ 'a/1/model.onnx': 'one', 'a/2/model.onnx': 'two' });
    await look();
    expect(catalog.resolve('a').version).toBe(2);
    rmSync(join(root, 'a', '2'), { recursive: true });
    await look();
    expect(catalog.resolve('a').version).toBe(1);
  });

  it('knows why a model cannot be served, and serves it when that is mended', async () => {
    start({ 'a/model.onnx': 'one', 'a/model.json': '{' });
    expect((await look()).failed).toMatchObject([{ id: 'a', error: { code: 'INVALID_ARGUMENT' } }]);
    expect(() => catalog.resolve('a')).toThrow('is not JSON');
    writeFiles(root, { 'a/model.json': '{}' });
    await look();
    expect(catalog.resolve('a').key).toBe('a@1');
  });

  it('keeps what is served when its manifest becomes bad', async () => {
    await look(true);
    writeFiles(root, { 'a/model.json': '{' });
    expect((await look()).failed).toMatchObject([{ id: 'a' }]);
    expect(catalog.resolve('a').key).toBe('a@1');
  });

  it('changes nothing when the directory cannot be read', async () => {
    await look();
    renameSync(root, `${root}-elsewhere`);
    await expect(look()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(catalog.models).toHaveLength(2);
    renameSync(`${root}-elsewhere`, root);
    expect(await look()).toEqual(nothing);
  });

  it('does not let one slow model hold up the others', async () => {
    await look(true);
    const { opened, open } = gate();
    replicas.gates.set('a', opened);
    writeFiles(root, { 'a/model.onnx': 'slow', 'b.onnx': 'quick' });
    await sync.sync({ wait: false, load: false });
    await until(() => catalog.resolve('b').key !== 'b@1');
    expect(await sync.sync({ wait: false, load: false })).toMatchObject({ unsettled: ['a'] });
    expect(catalog.resolve('a').key).toBe('a@1');
    open();
    await until(() => catalog.resolve('a').key !== 'a@1');
  });
});

describe('a model that is still being written', () => {
  const LONG_MS = 60_000;

  it('waits for the next look', async () => {
    start({ 'a/model.onnx': 'first half' }, LONG_MS);
    meanwhile = () => writeFiles(root, { 'a/model.onnx': 'first half, second half' });
    expect(await look()).toEqual({ ...nothing, unsettled: ['a'] });
    expect(catalog.find('a')).toBeUndefined();
    meanwhile = () => undefined;
    expect(await look()).toEqual({ ...nothing, added: ['a'] });
  });

  it('is served as before meanwhile', async () => {
    start({ 'a/model.onnx': 'whole' }, LONG_MS);
    await look();
    writeFiles(root, { 'a/model.onnx': 'first half' });
    meanwhile = () => writeFiles(root, { 'a/model.onnx': 'first half, second half' });
    expect((await look()).unsettled).toEqual(['a']);
    expect(catalog.resolve('a').key).toBe('a@1');
  });

  it('is not waited for when it was last written to long ago', async () => {
    start({ 'a/model.onnx': 'whole' }, LONG_MS);
    await look();
    meanwhile = () => expect.fail('nothing has changed');
    expect(await look()).toEqual(nothing);
  });
});
