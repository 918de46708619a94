import { expect, it } from 'vitest';
import { ITEMS_A_TURN, ScrapeTurns } from '../../../dist/observability/registry/scrape-turns.js';
import { flush } from '../../support/flush.js';

/** Turns that come when the test says so. */
function startTurns() {
  const told: string[] = [];
  let callbacks: (() => void)[] = [];
  const turns = new ScrapeTurns(
    (callback) => callbacks.push(callback),
    () => told.push('scrape begins'),
  );
  const turn = async () => {
    await flush();
    const due = callbacks;
    callbacks = [];
    for (const callback of due) callback();
    await flush();
  };
  return { turns, told, turn };
}

it('each reading has a turn of its own, and all that come meanwhile are one scrape', async () => {
  const { turns, told, turn } = startTurns();
  for (const name of ['a', 'b', 'c']) void turns.toRead().then(() => told.push(name));
  await turn();
  expect(told).toEqual(['scrape begins', 'a']);
  void turns.toRead().then(() => told.push('d'));
  for (let turnsLeft = 0; turnsLeft < 3; turnsLeft += 1) await turn();
  expect(told).toEqual(['scrape begins', 'a', 'b', 'c', 'd']);
  void turns.toRead().then(() => told.push('e'));
  await turn();
  expect(told.slice(5)).toEqual(['scrape begins', 'e']);
});

it('long work goes on in later turns, and begins no scrape', async () => {
  const { turns, told, turn } = startTurns();
  let visited = 0;
  const work = turns.forEach(Array(2 * ITEMS_A_TURN + 1).keys(), () => {
    visited += 1;
  });
  expect(visited).toBe(ITEMS_A_TURN);
  await turn();
  expect(visited).toBe(2 * ITEMS_A_TURN);
  await turn();
  await work;
  expect([visited, told]).toEqual([2 * ITEMS_A_TURN + 1, []]);
});
