import { expect, it } from 'vitest';
import { PIECES_A_TURN, TurnPortions } from '../../dist/common/turn-portions.js';
import { FakeClock } from '../support/fakes/fake-clock.js';

it('does a portion at once and the rest in the next turns, in the order of the calls', () => {
  const clock = new FakeClock({ defers: true });
  const portions = new TurnPortions(clock);
  const done: number[] = [];
  const count = 3 * PIECES_A_TURN + 1;
  for (let piece = 0; piece < count; piece += 1) portions.do(() => done.push(piece));
  const perTurn = [done.length];
  while (done.length < count) {
    const before = done.length;
    clock.runDeferred();
    perTurn.push(done.length - before);
  }
  expect(perTurn).toEqual([PIECES_A_TURN, PIECES_A_TURN, PIECES_A_TURN, 1]);
  expect(done).toEqual([...done.keys()]);
});

it('does one large piece in a turn, and takes what exceeds its portion from the next turns', () => {
  const clock = new FakeClock({ defers: true });
  const portions = new TurnPortions(clock);
  const done: number[] = [];
  for (let piece = 0; piece < 3; piece += 1) portions.do(() => done.push(piece), 2 * PIECES_A_TURN);
  const perTurn = [done.length];
  for (let turn = 0; turn < 6; turn += 1) {
    const before = done.length;
    clock.runDeferred();
    perTurn.push(done.length - before);
  }
  expect(perTurn).toEqual([1, 0, 1, 0, 1, 0, 0]);
});

it('keeps the order of what is called meanwhile, and has a whole portion again after a turn without work', () => {
  const clock = new FakeClock({ defers: true });
  const portions = new TurnPortions(clock);
  const done: string[] = [];
  const call = (name: string, times: number) => {
    for (let piece = 0; piece < times; piece += 1) portions.do(() => done.push(name));
  };
  call('first', PIECES_A_TURN + 2);
  call('second', 2);
  expect(done).not.toContain('second');
  clock.runDeferred();
  expect(done.slice(-4)).toEqual(['first', 'first', 'second', 'second']);
  clock.runDeferred();
  done.length = 0;
  call('third', PIECES_A_TURN + 1);
  expect(done).toHaveLength(PIECES_A_TURN);
});

it('a piece that throws costs no other piece its turn', () => {
  const clock = new FakeClock({ defers: true });
  const portions = new TurnPortions(clock);
  const done: number[] = [];
  const bad = PIECES_A_TURN + 3;
  for (let piece = 0; piece < bad + 3; piece += 1) {
    portions.do(() => {
      if (piece === bad) throw new Error('as asked');
      done.push(piece);
    });
  }
  expect(() => clock.runDeferred()).toThrow('as asked');
  clock.runDeferred();
  expect(done.slice(-2)).toEqual([bad + 1, bad + 2]);
});
