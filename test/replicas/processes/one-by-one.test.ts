import { expect, it } from 'vitest';
import { OneByOne } from '../../../dist/replicas/processes/one-by-one.js';

it('is done with what follows from one value before it hands on the next', async () => {
  const story: string[] = [];
  const hear = async (value: number) => {
    story.push(`hears ${value}`);
    for (let turn = 0; turn < 5; turn += 1) await undefined;
    story.push(`done with ${value}`);
  };
  const values = new OneByOne<number>((value) => void hear(value), String);
  for (const value of [1, 2, 3]) values.add(value);
  await new Promise<void>((resolve) => values.whenDone(resolve));
  expect(story).toEqual(['hears 1', 'done with 1', 'hears 2', 'done with 2', 'hears 3', 'done with 3']);
  values.add(4);
  expect(story.at(-1)).toBe('hears 4');
});

it('goes on after a value that cannot be heard, and says so', async () => {
  const story: unknown[] = [];
  const values = new OneByOne<number>(
    (value) => {
      if (value % 2 === 0) throw new Error(`not ${value}`);
      story.push(value);
    },
    (cause) => story.push((cause as Error).message),
  );
  for (const value of [0, 1, 2, 3]) values.add(value);
  await new Promise<void>((resolve) => values.whenDone(resolve));
  expect(story).toEqual(['not 0', 1, 'not 2', 3]);
});
