import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryIn } from '../../../dist/common/files/write-file.js';
import { Checkpoint } from '../../../dist/deployments/checkpoint/checkpoint.js';
import { directory as temporaryDirectory } from '../../support/directories.js';
import { makePipe } from '../../support/pipes.js';

const fileIn = (directory = temporaryDirectory()) => join(directory, 'checkpoint.json');

it('begins empty, and keeps each part until it is saved again', async () => {
  const file = fileIn();
  const checkpoint = await Checkpoint.open(file);
  expect(checkpoint.content).toEqual({});
  await checkpoint.save({ deployments: { a: 1 }, pins: [] });
  await checkpoint.save({ deployments: { b: 2 } });
  expect((await Checkpoint.open(file)).content).toEqual({ deployments: { b: 2 }, pins: [] });
  expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ format: 'infermux checkpoint', version: 1 });
});

it('writes what is saved at once one after the other, and leaves no other file behind', async () => {
  const file = fileIn();
  const checkpoint = await Checkpoint.open(file);
  await Promise.all(Array.from({ length: 20 }, (_, index) => checkpoint.save({ pins: [index] })));
  expect((await Checkpoint.open(file)).content).toEqual({ pins: [19] });
  expect(readdirSync(join(file, '..'))).toEqual(['checkpoint.json']);
});

it.each([
  ['', 'is damaged: '],
  ['{ "format": "infermux checkpoint", "vers', 'is damaged: '],
  ['[]', 'is not a checkpoint of infermux'],
  ['{ "name": "infermux" }', 'is not a checkpoint of infermux'],
  ['{ "format": "infermux checkpoint" }', 'is damaged: its version is undefined'],
  ['{ "format": "infermux checkpoint", "version": 2 }', 'has version 2, and this infermux reads up to version 1'],
  ['{ "format": "infermux checkpoint", "version": 1, "more": 1 }', 'is damaged: it has an unknown part "more"'],
])('%j is refused, and left as it is', async (text, reason) => {
  const file = fileIn();
  writeFileSync(file, text);
  const message = expect.stringContaining(reason);
  await expect(Checkpoint.open(file)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', message });
  expect(readFileSync(file, 'utf8')).toBe(text);
});

it('says when it cannot be read', async () => {
  const file = fileIn();
  mkdirSync(file);
  await expect(Checkpoint.open(file)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
});

it('does not write over what somebody else has written', async () => {
  const file = fileIn();
  const [one, other] = [await Checkpoint.open(file), await Checkpoint.open(file)];
  await one.save({ pins: [1] });
  const message = expect.stringContaining('another process has changed it meanwhile');
  await expect(other.save({ pins: [2] })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', message });
  await one.save({ pins: [3] });
  expect((await Checkpoint.open(file)).content).toEqual({ pins: [3] });
});

it('says when it cannot be written, and knows what is in the file', async () => {
  const directory = temporaryDirectory();
  const checkpoint = await Checkpoint.open(join(directory, 'none', 'checkpoint.json'));
  const message = expect.stringContaining('nothing was changed');
  await expect(checkpoint.save({ pins: [1] })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', message });
  expect(checkpoint.content).toEqual({});
  mkdirSync(join(directory, 'none'));
  await checkpoint.save({ pins: [2] });
  expect(checkpoint.content).toEqual({ pins: [2] });
});

const EMPTY = '{ "format": "infermux checkpoint", "version": 1 }';

describe.skipIf(process.platform === 'win32')('where others may write', () => {
  it('no link that they put there is written through', async () => {
    const root = temporaryDirectory({ precious: 'mine' });
    const file = join(root, 'c.json');
    for (const name of ['c.json.tmp', 'c.json.new', '.c.json.tmp'])
      symlinkSync(join(root, 'precious'), join(root, name));
    symlinkSync(join(root, 'nothing'), file);
    const checkpoint = await Checkpoint.open(file);
    await checkpoint.save({ pins: [1] });
    expect(readFileSync(join(root, 'precious'), 'utf8')).toBe('mine');
    expect(readdirSync(root).sort()).toEqual(['.c.json.tmp', 'c.json', 'c.json.new', 'c.json.tmp', 'precious']);
  });

  it('the file is for this user alone, whatever the umask', async () => {
    const file = fileIn();
    writeFileSync(file, EMPTY);
    const umask = process.umask(0);
    await (await Checkpoint.open(file)).save({ pins: [1] }).finally(() => process.umask(umask));
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it.each([0o666, 0o602, 0o777])('a file of mode %o is refused, and left as it is', async (mode) => {
    const file = fileIn();
    writeFileSync(file, EMPTY);
    chmodSync(file, mode);
    const message = expect.stringMatching(`may be written by everybody \\(mode ${mode.toString(8)}\\).*chmod 600 it`);
    await expect(Checkpoint.open(file)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', message });
    expect(readFileSync(file, 'utf8')).toBe(EMPTY);
    chmodSync(file, 0o600);
    expect((await Checkpoint.open(file)).doubt).toBeUndefined();
  });

  it('a folder that is not sticky raises a doubt', async () => {
    const file = fileIn();
    writeFileSync(file, EMPTY, { mode: 0o600 });
    const doubtOf = async (mode: number) => {
      chmodSync(join(file, '..'), mode);
      return (await Checkpoint.open(file)).doubt;
    };
    expect(await doubtOf(0o777)).toContain('may be written by everybody (mode 777): use chmod go-w on the folder');
    expect([await doubtOf(0o1777), await doubtOf(0o700)]).toEqual([undefined, undefined]);
  });
});

describe('a path where no checkpoint can be', () => {
  it.skipIf(process.platform === 'win32')('is refused when it is a pipe, which nobody waits for', async () => {
    const file = fileIn();
    makePipe(file);
    const message = expect.stringContaining('is not a regular file');
    await expect(Checkpoint.open(file)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', message });
  });

  it('is refused when it is too large, read or written', async () => {
    const file = fileIn();
    const checkpoint = await Checkpoint.open(file);
    const refusal = { code: 'FAILED_PRECONDITION', message: expect.stringContaining('at most 67108864 bytes') };
    await expect(checkpoint.save({ models: 'm'.repeat(2 ** 26) })).rejects.toMatchObject(refusal);
    expect(readdirSync(join(file, '..'))).toEqual([]);
    writeFileSync(file, '');
    truncateSync(file, 2 ** 26 + 1);
    await expect(Checkpoint.open(file)).rejects.toMatchObject(refusal);
  });
});

it('is read through a link, and a save puts a file in the place of the link', async () => {
  const root = temporaryDirectory({ mounted: EMPTY });
  symlinkSync(join(root, 'mounted'), join(root, 'c.json'));
  await (await Checkpoint.open(join(root, 'c.json'))).save({ pins: [1] });
  expect(readFileSync(join(root, 'mounted'), 'utf8')).toBe(EMPTY);
  expect((await Checkpoint.open(join(root, 'c.json'))).content).toEqual({ pins: [1] });
});

it('removes what a killed process left of a save, once that is old', async () => {
  const file = fileIn();
  const left = temporaryIn(join(file, '..'));
  writeFileSync(left, '{ "form');
  const checkpoint = await Checkpoint.open(file);
  const long = new Date(Date.now() - 7_200_000);
  utimesSync(left, long, long);
  await checkpoint.save({ pins: [1] });
  expect(readdirSync(join(file, '..'))).toEqual(['checkpoint.json']);
});
