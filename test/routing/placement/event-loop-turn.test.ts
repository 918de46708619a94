import { beforeEach, expect, it } from 'vitest';
import { EventLoopTurn } from '../../../dist/routing/placement/event-loop-turn.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';

let clock: FakeClock;
let turn: EventLoopTurn;

beforeEach(() => {
  clock = new FakeClock({ defers: true });
  turn = new EventLoopTurn(clock);
});

it('a turn is over a millisecond after its first answer, until the next turn', () => {
  turn.begin();
  expect(turn.isOver).toBe(false);
  clock.advance(1);
  turn.begin();
  expect(turn.isOver).toBe(true);
  clock.runDeferred();
  expect(turn.isOver).toBe(false);
  turn.begin();
  expect(turn.isOver).toBe(false);
});

it('without an answer it is never over: what callers do is their own time', () => {
  clock.advance(100);
  expect(turn.isOver).toBe(false);
});

it('it lasts as long as callers took to send their requests, within bounds, and once', () => {
  turn.callersTook(4);
  turn.begin();
  clock.advance(3);
  expect(turn.isOver).toBe(false);
  clock.advance(1);
  expect(turn.isOver).toBe(true);
  clock.runDeferred();

  turn.callersTook(500);
  turn.begin();
  clock.advance(10);
  expect(turn.isOver).toBe(true);
  clock.runDeferred();

  turn.begin();
  clock.advance(1);
  expect(turn.isOver).toBe(true);
});
