import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { tryLock } from '../../../dist/common/files/thread-lock.js';
import { HashMemory, hashMemory } from '../../../dist/protocol/hash-memory.js';
import { FileHashes } from '../../../dist/worker/weights/file-hashes.js';
import { WeightStore, whyNotTrusted } from '../../../dist/worker/weights/weight-store.js';
import { directory } from '../../support/directories.js';
import { gate } from '../../support/fakes/fake-model-replicas.js';
import { until } from '../../support/until.js';

/** Keys are hashes. */
const [a, b, c, d, e] = [...'abcde'].map((letter) => letter.repeat(64)) as [string, string, string, string, string];
let root: string;
let builds: string[];

const storeOf = (maxBytes = 1_000_000) =>
  new WeightStore({ directory: root, maxBytes }, new FileHashes(new HashMemory(hashMemory(64))));

/** Writes one file of so many bytes. */
const build =
  (key: string, bytes = 1_000) =>
  async (folder: string) => {
    builds.push(key);
    writeFileSync(join(folder, 'weights.bin'), new Uint8Array(bytes).fill(7));
    return undefined;
  };

const find = (store: WeightStore, key: string, bytes?: number) => store.find(key, build(key, bytes));
const weightsOf = (key: string) => join(root, key, 'weights.bin');
const keys = () =>
  readdirSync(root)
    .filter((name) => !name.includes('.'))
    .sort();
const use = (key: string, secondsAgo: number) => {
  const at = new Date(Date.now() - 1_000 * secondsAgo);
  utimesSync(join(root, key, 'entry.json'), at, at);
};

beforeEach(() => {
  root = join(directory(), 'store');
  builds = [];
});

/** A file of the system that is there and cannot be read. */
const UNREADABLE = '/proc/self/mem';

describe('the weight store', () => {
  it.skipIf(process.platform !== 'linux')('keeps an entry that the system cannot read now', async () => {
    await find(storeOf(), a);
    const index = join(root, a, 'entry.json');
    renameSync(index, join(root, 'kept'));
    symlinkSync(UNREADABLE, index);
    await expect(find(storeOf(), a)).rejects.toMatchObject({ code: 'EIO' });
    renameSync(join(root, 'kept'), index);
    expect(await find(storeOf(), a)).toEqual({ folder: join(root, a), declined: undefined });
    expect(builds).toEqual([a]);
  });

  it('builds an entry once, and finds it from then on, in other processes too', async () => {
    const entry = await find(storeOf(), a);
    expect(entry).toEqual({ folder: join(root, a), declined: undefined });
    expect(await find(storeOf(), a)).toEqual(entry);
    expect(builds).toEqual([a]);
    expect(readdirSync(root)).toEqual([a]);
    expect(statSync(root).mode & 0o777).toBe(0o700);
  });

  it.each<[string, (path: string) => void]>([
    ['cut short', (path) => truncateSync(path, 10)],
    ['longer', (path) => appendFileSync(path, 'more')],
    ['changed in one bit', (path) => writeFileSync(path, readFileSync(path).fill(6, 500, 501))],
    ['without its index', (path) => writeFileSync(join(path, '..', 'entry.json'), '{')],
  ])('builds an entry anew that is %s', async (_, damage) => {
    const { folder } = await find(storeOf(), a);
    damage(join(folder, 'weights.bin'));
    await find(storeOf(), a);
    expect(builds).toEqual([a, a]);
    expect(readFileSync(weightsOf(a)).every((byte) => byte === 7)).toBe(true);
    expect(readdirSync(root)).toEqual([a]);
  });

  it('notices damage in the very store that has verified the entry', async () => {
    const store = storeOf();
    const { folder } = await find(store, a);
    truncateSync(join(folder, 'weights.bin'), 10);
    await find(store, a);
    expect(builds).toEqual([a, a]);
  });

  it('lets one build, and the others wait for it', async () => {
    const { opened, open } = gate();
    const slow = async (folder: string) => {
      await opened;
      return build(a)(folder);
    };
    const all = Array.from({ length: 5 }, () => storeOf().find(a, slow));
    open();
    const entries = await Promise.all(all);
    expect(builds).toEqual([a]);
    expect(new Set(entries.map(({ folder }) => folder)).size).toBe(1);
  });

  it('leaves nothing when a build fails, and the next one tries again', async () => {
    const store = storeOf();
    const failing = store.find(a, async (folder) => {
      await build(a)(folder);
      throw new Error('no room left');
    });
    await expect(failing).rejects.toThrow('no room left');
    expect(readdirSync(root)).toEqual([]);
    await find(store, a);
    expect(keys()).toEqual([a]);
  });

  it('remembers what is better not stored', async () => {
    const decline = async (folder: string) => {
      await build(a)(folder);
      return 'too little of it';
    };
    expect((await storeOf().find(a, decline)).declined).toBe('too little of it');
    expect((await storeOf().find(a, decline)).declined).toBe('too little of it');
    expect(builds).toEqual([a]);
    expect(readdirSync(join(root, a))).toEqual(['entry.json']);
  });

  it('keeps within its bytes: those leave that were not used for longest', async () => {
    const store = storeOf(3_500);
    for (const key of [a, b, c]) {
      await find(store, key);
      use(key, 60);
    }
    use(b, 120);
    await find(store, a);
    await find(store, d);
    expect(keys()).toEqual([a, c, d]);
    await find(store, e, 9_000);
    expect(keys()).toEqual([e]);
  });

  it('removes nothing that is not its own', async () => {
    mkdirSync(join(root, 'photos'), { recursive: true });
    mkdirSync(join(root, 'work.tmp'));
    writeFileSync(join(root, 'photos', 'a.jpg'), new Uint8Array(9_000));
    const long = new Date(Date.now() - 7_200_000);
    utimesSync(join(root, 'work.tmp'), long, long);
    await find(storeOf(1), a);
    await find(storeOf(1), b);
    expect(readdirSync(root).sort()).toEqual([b, 'photos', 'work.tmp']);
  });

  it('can be told that an entry is of no use, and waits for nobody who may not', async () => {
    await find(storeOf(), a);
    await storeOf().decline(a, 'onnxruntime does not take it');
    expect((await find(storeOf(), a)).declined).toBe('onnxruntime does not take it');
    const { opened, open } = gate();
    const slow = storeOf().find(b, async (folder) => {
      await opened;
      return build(b)(folder);
    });
    await until(() => readdirSync(root).includes(`${b}.lock`));
    const stopped = storeOf().find(b, build(b), () => {
      throw new Error('told to stop');
    });
    await expect(stopped).rejects.toThrow('told to stop');
    open();
    await slow;
  });

  it('takes over from a thread that died while it built, and clears what that left', async () => {
    const lock = join(directory(), 'lock');
    await tryLock(lock);
    const dead = { ...JSON.parse(readFileSync(lock, 'utf8')), startedAt: '1' };
    mkdirSync(join(root, `${a}.some-uuid.tmp`), { recursive: true });
    writeFileSync(join(root, `${a}.some-uuid.tmp`, 'weights.bin'), 'half');
    writeFileSync(join(root, `${a}.lock`), JSON.stringify(dead));
    await find(storeOf(), a);
    expect(readdirSync(root)).toEqual([a]);
  });

  it('says that it cannot be written', async () => {
    const file = join(directory({ file: '' }), 'file');
    const store = new WeightStore({ directory: file, maxBytes: 1 }, new FileHashes(new HashMemory(hashMemory(1))));
    await expect(find(store, a)).rejects.toThrow();
    expect(builds).toEqual([]);
  });
});

describe.skipIf(process.platform === 'win32')('where others may write', () => {
  it('a store that anybody may change is not used, and one like /tmp is', async () => {
    await find(storeOf(), a);
    chmodSync(root, 0o777);
    await expect(find(storeOf(), a)).rejects.toThrow('may be written by everybody (mode 777): use chmod go-w on it');
    chmodSync(root, 0o1777);
    expect((await find(storeOf(), a)).folder).toBe(join(root, a));
    expect(builds).toEqual([a]);
  });

  it('an entry that anybody may change, or that is a link, is built anew, and nothing is written through it', async () => {
    await find(storeOf(), a);
    chmodSync(join(root, a), 0o777);
    await find(storeOf(), a);
    expect(builds).toEqual([a, a]);
    expect(statSync(join(root, a)).mode & 0o777).toBe(0o700);
    const elsewhere = directory();
    renameSync(join(root, a), join(elsewhere, 'entry'));
    symlinkSync(join(elsewhere, 'entry'), join(root, a));
    const before = readFileSync(join(elsewhere, 'entry', 'entry.json'), 'utf8');
    await find(storeOf(), a);
    expect(builds).toEqual([a, a, a]);
    expect(readFileSync(join(elsewhere, 'entry', 'entry.json'), 'utf8')).toBe(before);
    expect(readdirSync(join(elsewhere, 'entry'))).toEqual(['entry.json', 'weights.bin']);
  });

  it.each([
    ['of this user', { uid: 7, gid: 7, mode: 0o775 }, undefined],
    ['of root, shared with a group', { uid: 0, gid: 7, mode: 0o2775 }, undefined],
    ['of another user', { uid: 8, gid: 8, mode: 0o700 }, 'belongs to user 8: name a folder of this user in options.'],
    ['of root, for anybody', { uid: 0, gid: 0, mode: 0o777 }, 'may be written by everybody (mode 777)'],
    ['like /tmp', { uid: 0, gid: 0, mode: 0o1777 }, undefined],
  ])('a store %s: %j', (_, found, refusal) => {
    const reason = whyNotTrusted('/store', found, 7);
    if (refusal === undefined) expect(reason).toBeUndefined();
    else expect(reason).toContain(refusal);
  });
});

describe('the hashes of files', () => {
  it('are SHA-256, computed once for all threads that share the memory, as long as the file is the same', async () => {
    const path = join(directory({ file: 'abc' }), 'file');
    const memory = hashMemory(4);
    const abc = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
    expect(await new FileHashes(new HashMemory(memory)).of(path)).toBe(abc);
    expect(new HashMemory(memory).get(new Uint8Array(32))).toBeUndefined();
    expect(await new FileHashes(new HashMemory(memory)).of(path)).toBe(abc);
    writeFileSync(path, 'abd');
    expect(await new FileHashes(new HashMemory(memory)).of(path)).not.toBe(abc);
  });

  it('are right when there is little memory for them', async () => {
    const root = directory({ a: 'a', b: 'b', c: 'c' });
    const hashes = new FileHashes(new HashMemory(hashMemory(1)));
    const all = async () => Promise.all(['a', 'b', 'c'].map((name) => hashes.of(join(root, name))));
    const first = await all();
    expect(new Set(first).size).toBe(3);
    expect(await all()).toEqual(first);
  });
});
