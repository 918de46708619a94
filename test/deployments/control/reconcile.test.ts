import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Action,
  type PlaceSnapshot,
  type PlaceState,
  reconcile,
  stopOrder,
} from '../../../dist/deployments/control/reconcile.js';
import type { Target } from '../../../dist/deployments/control/target.js';

const TARGET: Target = { replicas: 2, revision: 1, configRevision: 1, fraction: 0.2 };

/** `1 running`: a running place of revision 1. What else it is comes behind. */
function place(words: string, index = 0, more: Partial<PlaceSnapshot> = {}): PlaceSnapshot {
  const [revision = '1', state = 'running'] = words.split(' ');
  return {
    ...{ id: `r${index}`, state: state as PlaceState, revision: Number(revision), configRevision: 1 },
    ...{ isReconfiguring: false, startsInMs: 0, soleModels: 0, ongoing: 0, models: 0, ...more },
  };
}

const places = (...words: (string | [string, Partial<PlaceSnapshot>])[]) =>
  words.map((word, index) => (typeof word === 'string' ? place(word, index) : place(word[0], index, word[1])));
const say = (action: Action | undefined) =>
  action === undefined ? 'nothing' : 'id' in action ? `${action.kind} ${action.id}` : action.kind;

describe('the next step', () => {
  it.each<[string, Partial<Target>, PlaceSnapshot[], string]>([
    ['too few: one more', {}, places(), 'add'],
    ['too few while others start: one more', {}, places('1 starting'), 'add'],
    ['as many as wanted: nothing', {}, places('1 running', '1 running'), 'nothing'],
    ['one that goes does not count', {}, places('1 running', '1 draining'), 'add'],
    ['a failed one whose time has come: started', {}, places('1 running', '1 waiting'), 'start r1'],
    [
      'a failed one whose time has not come: nothing',
      {},
      places('1 running', ['1 waiting', { startsInMs: 5 }]),
      'nothing',
    ],
    ['too many: first what is not started', { replicas: 1 }, places('1 starting', '1 waiting', '1 running'), 'stop r1'],
    ['then what is starting', { replicas: 1 }, places('1 running', '1 starting', '1 running'), 'stop r1'],
    ['then the last of equals', { replicas: 1 }, places('1 running', '1 running'), 'stop r1'],
    ['none wanted: all go', { replicas: 0 }, places('1 running'), 'stop r0'],
    ['nothing wanted and nothing there', { replicas: 0 }, [], 'nothing'],
    [
      'never the last warm copy of a model in use while there is another choice',
      { replicas: 1 },
      places(['1 running', { ongoing: 9 }], ['1 running', { soleModels: 1 }]),
      'stop r0',
    ],
    [
      'work weighs more than models',
      { replicas: 1 },
      places(['1 running', { models: 3 }], ['1 running', { ongoing: 1 }]),
      'stop r0',
    ],
    ['an old one that does not run is of no use', { revision: 2 }, places('1 running', '1 starting'), 'stop r1'],
    ['a rolling update begins with a new one', { revision: 2 }, places('1 running', '1 running'), 'add'],
    ['and stops no old one before it runs', { revision: 2 }, places('1 running', '1 running', '2 starting'), 'nothing'],
    ['but then', { revision: 2 }, places('1 running', '1 running', '2 running'), 'stop r1'],
    ['and waits until it is gone', { revision: 2 }, places('1 running', '1 draining', '2 running'), 'nothing'],
    ['and goes on', { revision: 2 }, places('1 running', '2 running'), 'add'],
    ['until only new ones are left', { revision: 2 }, places('1 running', '2 running', '2 running'), 'stop r0'],
    [
      'a step of it is the fraction',
      { replicas: 10, revision: 2, fraction: 0.3 },
      places(...Array(10).fill('1 running'), '2 starting', '2 starting'),
      'add',
    ],
    [
      'and no more',
      { replicas: 10, revision: 2, fraction: 0.3 },
      places(...Array(10).fill('1 running'), '2 starting', '2 starting', '2 starting'),
      'nothing',
    ],
    [
      'a new one that fails stops no old one',
      { revision: 2 },
      places('1 running', '1 running', ['2 waiting', { startsInMs: 9 }]),
      'nothing',
    ],
    [
      'an update that also scales down lets old ones go',
      { replicas: 1, revision: 2 },
      places('1 running', '1 running'),
      'stop r1',
    ],
    [
      'another configuration: one after the other',
      { configRevision: 2 },
      places('1 running', '1 running'),
      'reconfigure r0',
    ],
    [
      'not two at once',
      { configRevision: 2 },
      places(['1 running', { isReconfiguring: true }], '1 running'),
      'nothing',
    ],
    ['what one refuses is not told the others', { configRevision: 2 }, places('1 stuck', '1 running'), 'nothing'],
    [
      'one that is starting has it',
      { configRevision: 2 },
      places('1 starting', ['1 running', { configRevision: 2 }]),
      'nothing',
    ],
  ])('%s', (_, target, snapshot, expected) => {
    expect(say(reconcile({ ...TARGET, ...target }, snapshot))).toBe(expected);
  });
});

it('goes in the order of what is lost least', () => {
  const order = stopOrder(
    places(
      ['1 running', { soleModels: 1 }],
      ['1 running', { ongoing: 1 }],
      ['1 running', { models: 1 }],
      '1 running',
      '1 running',
      '1 stuck',
      '1 starting',
      '1 waiting',
    ),
  );
  expect(order.map(({ id }) => id).join(' ')).toBe('r7 r6 r5 r4 r3 r2 r1 r0');
});

describe('whatever the target and what there is', () => {
  const state = fc.constantFrom<PlaceState>('waiting', 'starting', 'running', 'stuck', 'draining');
  const anyPlaces = fc.array(
    fc.record({ state, revision: fc.constantFrom(1, 2), configRevision: fc.constantFrom(1, 2), ongoing: fc.nat(3) }),
    { maxLength: 12 },
  );
  const anyTarget = fc.record({
    replicas: fc.nat(8),
    fraction: fc.double({ min: 0, max: 1, noNaN: true }),
    revision: fc.constant(2),
    configRevision: fc.constant(2),
  });

  /** What becomes of the snapshot when the step succeeds. */
  function perform(snapshot: PlaceSnapshot[], action: Action, next: number): PlaceSnapshot[] {
    if (action.kind === 'add') return [...snapshot, place('2 starting', next, { configRevision: 2 })];
    return snapshot.map((old) => {
      if (old.id !== action.id) return old;
      if (action.kind === 'stop') return { ...old, state: 'draining' as const };
      return action.kind === 'start' ? { ...old, state: 'starting' as const } : { ...old, configRevision: 2 };
    });
  }
  const isWorking = ({ state: now }: PlaceSnapshot) => now === 'running' || now === 'stuck';
  const count = (snapshot: PlaceSnapshot[], is: (one: PlaceSnapshot) => boolean) => snapshot.filter(is).length;

  it('it gets there, and never has fewer at work than wanted because of a step', () => {
    fc.assert(
      fc.property(anyTarget, anyPlaces, (target, given) => {
        let snapshot = given.map((more, index) => place('1 running', index, { ...more, startsInMs: 0 }));
        let next = snapshot.length;
        for (let round = 0; round < 200; round += 1) {
          const action = reconcile(target, snapshot);
          if (action === undefined) {
            const underWay = snapshot.some(({ state: now }) => now === 'starting' || now === 'draining');
            if (!underWay) break;
            // Everything that was under way comes to its end.
            snapshot = snapshot
              .filter(({ state: now }) => now !== 'draining')
              .map((one) =>
                one.state === 'starting' ? { ...one, state: 'running' as const, configRevision: 2 } : one,
              );
            continue;
          }
          const before = count(snapshot, isWorking);
          snapshot = perform(snapshot, action, next);
          next += 1;
          const after = count(snapshot, isWorking);
          expect(after).toBeGreaterThanOrEqual(Math.min(before, target.replicas));
          const live = count(snapshot, ({ state: now }) => now !== 'draining');
          const step = Math.max(1, Math.floor(target.replicas * target.fraction));
          if (action.kind === 'add') expect(live).toBeLessThanOrEqual(target.replicas + step);
        }
        expect(reconcile(target, snapshot)).toBeUndefined();
        expect(count(snapshot, isWorking)).toBe(target.replicas);
        expect(count(snapshot, ({ revision }) => revision === target.revision)).toBe(snapshot.length);
      }),
    );
  });
});
