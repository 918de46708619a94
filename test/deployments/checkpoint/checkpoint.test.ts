import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Checkpoint } from '../../../dist/deployments/checkpoint/checkpoint.js';
import { directory as temporaryDirectory } from '../../support/directories.js';

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
