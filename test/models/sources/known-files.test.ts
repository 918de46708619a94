import { linkSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { KnownFiles } from '../../../dist/models/sources/known-files.js';
import { directory } from '../../support/directories.js';
import { changeMode, writeLongAgo } from '../../support/file-times.js';

const LARGE_BYTES = 2 ** 20 + 1;

let path: string;
let files: KnownFiles;

const put = (contents: string | Uint8Array) => writeLongAgo(path, contents);
const touch = () => changeMode(path);
const revision = async () => (await files.look(path)).file.revision;

beforeEach(() => {
  path = join(directory(), 'file');
  files = new KnownFiles();
});

describe('a small file', () => {
  it('is another one when other contents of the same size and mtime are put in its place', async () => {
    put('one');
    const first = await revision();
    put('two');
    expect(await revision()).not.toBe(first);
  });

  it('stays the same when only its mode, its links or its name on the way change', async () => {
    put('one');
    const first = await revision();
    touch();
    expect(await revision()).toBe(first);
    linkSync(path, `${path}-link`);
    expect(await revision()).toBe(first);
    renameSync(path, `${path}-away`);
    renameSync(`${path}-away`, path);
    expect(await revision()).toBe(first);
  });

  it('is read only when it may have changed', async () => {
    put('one');
    const reads = [await files.look(path), await files.look(path)].map(({ contents }) => contents?.toString());
    touch();
    expect([...reads, (await files.look(path)).contents?.toString()]).toEqual(['one', undefined, 'one']);
  });

  it('has one revision for all that look at once, whatever happens to it', async () => {
    const step = fc.constantFrom('one', 'two', 'touch');
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 6 }), async (steps) => {
        files = new KnownFiles();
        put('one');
        let contents = 'one';
        let last = await revision();
        for (const change of steps) {
          if (change === 'touch') touch();
          else put(change);
          const revisions = await Promise.all([revision(), revision(), revision()]);
          const isSame = change === 'touch' || change === contents;
          expect(new Set(revisions)).toEqual(new Set([isSame ? last : revisions[0]]));
          expect(revisions[0] === last).toBe(isSame);
          contents = change === 'touch' ? contents : change;
          last = revisions[0] as string;
        }
      }),
      { numRuns: 30 },
    );
  });
});

describe('a large file', () => {
  it('whose contents nobody has hashed counts as changed once when its mode changes', async () => {
    put(Buffer.alloc(LARGE_BYTES, 1));
    const first = await revision();
    touch();
    const second = await revision();
    touch();
    expect([second === first, (await revision()) === second]).toEqual([false, true]);
    put(Buffer.alloc(LARGE_BYTES, 2));
    expect(await revision()).not.toBe(second);
  });
});

describe('a failed look', () => {
  it('is an error and no finding: what was known is known afterwards', async () => {
    put('one');
    const first = await revision();
    renameSync(path, `${path}-away`);
    await expect(revision()).rejects.toMatchObject({ code: 'ENOENT' });
    renameSync(`${path}-away`, path);
    expect(await revision()).toBe(first);
  });

  it.skipIf(process.platform !== 'linux')('with contents that the system cannot read is one as well', async () => {
    symlinkSync('/proc/self/mem', path);
    await expect(revision()).rejects.toMatchObject({ code: 'EIO' });
  });
});
