import { chmodSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { HashMemory, hashMemory } from '../../../dist/protocol/hash-memory.js';
import { FileHashes, isLasting } from '../../../dist/worker/weights/file-hashes.js';
import { RememberedHashes } from '../../../dist/worker/weights/remembered-hashes.js';
import { directory } from '../../support/directories.js';

const bytes = (value: number) => new Uint8Array(32).fill(value);
const pair = (value: number) => [bytes(value), bytes(value + 1)] as const;

let path: string;
let list: RememberedHashes;

const digits = (value: number) => Buffer.from(bytes(value)).toString('hex');

/** What an engine sees that starts now. */
const get = (value: number) => new RememberedHashes(path).get(bytes(value));

beforeEach(() => {
  path = join(directory(), 'hashes.json');
  list = new RememberedHashes(path);
});

describe('remembered hashes', () => {
  it('are there for the next engine, with those of the engines before', async () => {
    expect(await get(1)).toBeUndefined();
    await list.add([pair(1), pair(3)]);
    await new RememberedHashes(path).add([pair(5)]);
    expect([await get(1), await get(5), await get(7)]).toEqual([digits(2), digits(6), undefined]);
  });

  it('are as many as are worth it, the last ones', async () => {
    const numbered = (index: number) => {
      const state = bytes(9);
      new DataView(state.buffer).setUint32(0, index);
      return [state, bytes(1)] as const;
    };
    await list.add(Array.from({ length: 1_500 }, (_, index) => numbered(index)));
    const again = new RememberedHashes(path);
    expect(await again.get(numbered(0)[0])).toBeUndefined();
    expect(await again.get(numbered(1_499)[0])).toBeDefined();
  });

  it.each<[string, () => void]>([
    ['that anybody may write', () => chmodSync(path, 0o666)],
    ['that is cut short', () => writeFileSync(path, readFileSync(path).subarray(0, 100))],
    ['that is no list', () => writeFileSync(path, '{"a":1}')],
    ['of something else', () => writeFileSync(path, JSON.stringify([['01'.repeat(32), 5]]))],
  ])('are nobody’s in a file %s, and are written anew', async (_, spoil) => {
    await list.add([pair(1)]);
    spoil();
    expect(await get(1)).toBeUndefined();
    await new RememberedHashes(path).add([pair(3)]);
    expect(await get(3)).toBe(digits(4));
  });

  it('are none of files whose state may be that of another one, as in the images of disks, and of models in memory', async () => {
    // The last bit says so.
    await list.add([
      [bytes(2), bytes(1)],
      [bytes(5), bytes(1)],
    ]);
    expect([await get(2), await get(5)]).toEqual([undefined, digits(1)]);
    const memory = new HashMemory(hashMemory(8));
    new FileHashes(memory).ofContents('m@1', new SharedArrayBuffer(1));
    expect(memory.entries().map(([state]) => isLasting(state))).toEqual([false]);
  });

  it('do not count where a file is to be read', async () => {
    const file = join(directory({ model: 'weights' }), 'model');
    const memory = new HashMemory(hashMemory(8));
    const hash = await new FileHashes(memory).of(file);
    await list.add(memory.entries().map(([state]) => [state, bytes(1)] as const));
    const next = new FileHashes(new HashMemory(hashMemory(8)), new RememberedHashes(path));
    expect([await next.known(file), await next.of(file)]).toEqual([digits(1), hash]);
  });

  it('hold for a file until it is changed, though its size and time of change are set back', async () => {
    const file = join(directory({ model: 'weights' }), 'model');
    const memory = new HashMemory(hashMemory(8));
    const hash = await new FileHashes(memory).of(file);
    await list.add(memory.entries());
    const next = () => new FileHashes(new HashMemory(hashMemory(8)), new RememberedHashes(path));
    expect(await next().known(file)).toBe(hash);
    const past = new Date(0);
    writeFileSync(file, 'WEIGHTS');
    utimesSync(file, past, past);
    expect(await next().known(file)).toBeUndefined();
  });
});
