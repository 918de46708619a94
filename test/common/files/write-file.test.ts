import {
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createFile, removeAbandoned, replaceFile, temporaryIn } from '../../../dist/common/files/write-file.js';
import { directory } from '../../support/directories.js';

const umask = process.umask();
const modeOf = (path: string) => statSync(path).mode & 0o777;

afterEach(() => {
  process.umask(umask);
});

describe('a file that is replaced', () => {
  it('takes the place of a link, and leaves what the link leads to', async () => {
    const root = directory({ precious: 'mine' });
    symlinkSync(join(root, 'precious'), join(root, 'file'));
    symlinkSync(join(root, 'nothing'), join(root, 'other'));
    await replaceFile(join(root, 'file'), 'new', 0o600);
    await replaceFile(join(root, 'other'), 'new', 0o600);
    expect(readFileSync(join(root, 'file'), 'utf8')).toBe('new');
    expect(readFileSync(join(root, 'precious'), 'utf8')).toBe('mine');
    expect(readdirSync(root)).toEqual(['file', 'other', 'precious']);
  });

  it('leaves the other names of the same file as they are', async () => {
    const root = directory({ precious: 'mine' });
    linkSync(join(root, 'precious'), join(root, 'file'));
    await replaceFile(join(root, 'file'), 'new', 0o600);
    expect(readFileSync(join(root, 'precious'), 'utf8')).toBe('mine');
  });

  it('has the mode that was asked for, whatever the old one had and however little the umask takes away', async () => {
    const path = join(directory({ file: 'old' }), 'file');
    process.umask(0);
    await replaceFile(path, 'new', 0o600);
    expect(modeOf(path)).toBe(0o600);
  });

  it('leaves nothing behind when it cannot be put in place', async () => {
    const root = directory({ 'file/child': '' });
    await expect(replaceFile(join(root, 'file'), 'new', 0o600)).rejects.toThrow();
    expect(readdirSync(root)).toEqual(['file']);
  });

  it('is one of those that were written at once, as a whole', async () => {
    const root = directory();
    const texts = Array.from({ length: 20 }, (_, index) => String(index).repeat(100_000));
    await Promise.all(texts.map((text) => replaceFile(join(root, 'file'), text, 0o600)));
    expect(texts).toContain(readFileSync(join(root, 'file'), 'utf8'));
    expect(readdirSync(root)).toEqual(['file']);
  });
});

describe('a file that is created', () => {
  it('follows no link, and opens no file', async () => {
    const root = directory({ precious: 'mine' });
    symlinkSync(join(root, 'precious'), join(root, 'link'));
    symlinkSync(join(root, 'nothing'), join(root, 'dangling'));
    for (const name of ['link', 'dangling', 'precious']) {
      await expect(createFile(join(root, name), 'new', 0o600), name).rejects.toMatchObject({ code: 'EEXIST' });
    }
    expect(readFileSync(join(root, 'precious'), 'utf8')).toBe('mine');
    expect(readdirSync(root)).toEqual(['dangling', 'link', 'precious']);
  });

  it('is removed when it cannot be written', async () => {
    const root = directory();
    await expect(createFile(join(root, 'file'), 7 as never, 0o600)).rejects.toThrow();
    expect(readdirSync(root)).toEqual([]);
  });
});

it('temporary files of killed processes are removed when they are old, and nothing else is', async () => {
  const root = directory({ '.infermux-notes.tmp': '', 'other.tmp': '' });
  const [young, old, folder] = [temporaryIn(root), temporaryIn(root), temporaryIn(root)];
  for (const path of [young, old]) writeFileSync(path, 'half');
  mkdirSync(folder);
  const long = new Date(Date.now() - 7_200_000);
  for (const path of [old, folder, join(root, '.infermux-notes.tmp')]) utimesSync(path, long, long);
  await removeAbandoned(root);
  const left = ['.infermux-notes.tmp', 'other.tmp', ...[young, folder].map((path) => path.slice(root.length + 1))];
  expect(readdirSync(root).sort()).toEqual(left.sort());
  await removeAbandoned(join(root, 'nowhere'));
});
