import { chmodSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isSticky, keepsModes, otherWriters, thisUser } from '../../../dist/common/files/other-writers.js';
import { directory } from '../../support/directories.js';

const FILE = 0o100000;

describe('who may write a file beside this user', () => {
  it.each([
    ['nobody', { uid: 1000, gid: 1000, mode: 0o644 }, undefined],
    [
      "nobody: the group is the user's own, as the umask 002 leaves it",
      { uid: 1000, gid: 1000, mode: 0o664 },
      undefined,
    ],
    ["nobody: the group is root's", { uid: 1000, gid: 0, mode: 0o664 }, undefined],
    ['nobody: it is of root, whom nothing keeps out', { uid: 0, gid: 0, mode: 0o644 }, undefined],
    ['a group', { uid: 1000, gid: 50, mode: 0o664 }, ['group', 'may be written by group 50 (mode 664)']],
    [
      'a group that root has named',
      { uid: 0, gid: 1000, mode: 0o2775 },
      ['group', 'may be written by group 1000 (mode 2775)'],
    ],
    ['another user', { uid: 1001, gid: 1000, mode: 0o600 }, ['owner', 'belongs to user 1001']],
    ['anybody', { uid: 1000, gid: 1000, mode: 0o666 }, ['anybody', 'may be written by everybody (mode 666)']],
    ['anybody, of root too', { uid: 0, gid: 0, mode: 0o1777 }, ['anybody', 'may be written by everybody (mode 1777)']],
  ])('%s', (_, found, expected) => {
    const others = otherWriters({ ...found, mode: FILE | found.mode }, 1000);
    expect(others && [others.who, others.what]).toEqual(expected);
  });

  it('is not known where there are no modes', () => {
    expect(otherWriters({ uid: 0, gid: 0, mode: FILE | 0o666 }, undefined)).toBeUndefined();
  });

  it('root learns of the files of other users too', () => {
    expect(otherWriters({ uid: 1000, gid: 1000, mode: FILE | 0o644 }, 0)?.who).toBe('owner');
  });
});

it.skipIf(process.platform === 'win32')('holds for real files, and a disk that keeps modes is known', async () => {
  const root = directory({ file: '' });
  const look = () => otherWriters(statSync(join(root, 'file')), thisUser())?.who;
  chmodSync(join(root, 'file'), 0o644);
  expect(look()).toBeUndefined();
  chmodSync(join(root, 'file'), 0o646);
  expect(look()).toBe('anybody');
  expect([isSticky(statSync('/tmp')), isSticky(statSync(root))]).toEqual([true, false]);
  expect([await keepsModes(root), await keepsModes(join(root, 'nowhere'))]).toEqual([true, true]);
  expect(readdirSync(root)).toEqual(['file']);
});
