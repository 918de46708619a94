import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../../dist/common/errors.js';
import { createEviction } from '../../../../dist/worker/sessions/eviction-policies.js';
import type { Lease } from '../../../../dist/worker/sessions/leases.js';
import { FakeSessions, model } from '../../../support/fakes/fake-sessions.js';

describe('making room', () => {
  it('evicts the least recently used session, and only when the bound requires it', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    for (const id of ['a', 'b', 'a']) (await sessions.use(multiplexer, id)).giveBack();
    sessions.log.length = 0;
    (await sessions.use(multiplexer, 'c')).giveBack();
    expect(sessions.log).toEqual(['checked c@1', 'unloaded b@1 evicted', 'loading c@1', 'loaded c@1']);
    expect(sessions.resident).toEqual({ models: 2, bytes: 200 });
  });

  it('counts of a load only what the next one takes, too', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ eviction: createEviction('cost-aware', () => sessions.now) });
    const load = async (id: string, loadMs: number, preparationMs: number) => {
      sessions.preparationMs = preparationMs;
      sessions.gate = Promise.resolve().then(() => {
        sessions.now += loadMs;
      });
      (await sessions.use(multiplexer, id)).giveBack();
    };
    await load('a', 50, 0);
    await load('b', 90, 60);
    await load('c', 10, 0);
    expect(multiplexer.keys()).toEqual(['c@1', 'a@1']);
  });

  it('waits for the load where memory allows one more for a moment, so that one that fails costs nobody a session', async () => {
    const sessions = new FakeSessions();
    sessions.hasMemory = true;
    const multiplexer = sessions.multiplexer({ maxBytes: 300 });
    for (const id of ['a', 'b']) (await sessions.use(multiplexer, id)).giveBack();
    sessions.log.length = 0;
    sessions.failing = new InfermuxError('MODEL_LOAD_FAILED', 'broken');
    await expect(sessions.use(multiplexer, 'c')).rejects.toMatchObject({ message: 'broken' });
    expect(multiplexer.keys()).toEqual(['b@1', 'a@1']);
    sessions.failing = undefined;
    (await sessions.use(multiplexer, 'd')).giveBack();
    expect(sessions.log).toEqual([
      ...['loading c@1', 'failed c@1 MODEL_LOAD_FAILED'],
      ...['loading d@1', 'unloaded a@1 evicted', 'loaded d@1'],
    ]);
    expect([sessions.mostLive, sessions.resident.models, multiplexer.keys()]).toEqual([3, 2, ['d@1', 'b@1']]);
  });

  it.each([
    ['memory', { maxModels: 2, maxBytes: -1 }, false],
    ['the bound of bytes', { maxModels: -1, maxBytes: 200 }, true],
  ])('is refused by what can be checked where %s does not allow one more', async (_, bounds, hasMemory) => {
    const sessions = new FakeSessions();
    sessions.hasMemory = hasMemory;
    const multiplexer = sessions.multiplexer(bounds);
    for (const id of ['a', 'b']) (await sessions.use(multiplexer, id)).giveBack();
    sessions.refused = new InfermuxError('MODEL_LOAD_FAILED', 'no model');
    await expect(sessions.use(multiplexer, 'c')).rejects.toMatchObject({ message: 'no model' });
    expect(multiplexer.keys()).toEqual(['b@1', 'a@1']);
    sessions.refused = undefined;
    sessions.now += 10_000;
    (await sessions.use(multiplexer, 'c')).giveBack();
    expect([multiplexer.keys(), sessions.mostLive]).toEqual([['c@1', 'b@1'], 2]);
    sessions.log.length = 0;
    // What was loaded here before is known to load.
    (await sessions.use(multiplexer, 'a')).giveBack();
    expect(sessions.log).not.toContain('checked a@1');
  });

  it('keeps within the bytes', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ maxModels: -1, maxBytes: 250 });
    for (const id of ['a', 'b', 'c']) (await sessions.use(multiplexer, id)).giveBack();
    expect(multiplexer.keys()).toEqual(['c@1', 'b@1']);
    expect(sessions.resident).toEqual({ models: 2, bytes: 200 });
  });

  it('passes over sessions in use, and waits for the last user when all are', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    const [a, b] = [await sessions.use(multiplexer, 'a'), await sessions.use(multiplexer, 'b')];
    b.giveBack();
    const c = await sessions.use(multiplexer, 'c');
    expect(sessions.live).toEqual(new Set(['a@1', 'c@1']));
    const d = sessions.use(multiplexer, 'd');
    await new Promise(setImmediate);
    expect(sessions.live).toEqual(new Set(['a@1', 'c@1']));
    a.giveBack();
    (await d).giveBack();
    c.giveBack();
    expect(sessions.violations).toEqual([]);
    expect(sessions.mostLive).toBe(2);
  });

  it('lets go of sessions that were unused for the idle time-out, and says when the next is due', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ idleTimeoutMs: 100 });
    (await sessions.use(multiplexer, 'a')).giveBack();
    sessions.now = 60;
    (await sessions.use(multiplexer, 'b')).giveBack();
    sessions.now = 100;
    await expect(multiplexer.expire()).resolves.toBe(60);
    expect(sessions.log.at(-1)).toBe('unloaded a@1 expired');
    sessions.now = 160;
    await expect(multiplexer.expire()).resolves.toBeUndefined();
    expect(multiplexer.keys()).toEqual([]);
  });

  it('releases everything at the end, after the last users', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    const lease = await sessions.use(multiplexer, 'a');
    (await sessions.use(multiplexer, 'b')).giveBack();
    const released = multiplexer.releaseAll();
    await new Promise(setImmediate);
    expect(sessions.live.has('a@1')).toBe(true);
    lease.giveBack();
    await released;
    expect(sessions.live.size).toBe(0);
    expect(sessions.violations).toEqual([]);
    expect(sessions.resident).toEqual({ models: 0, bytes: 0 });
  });
});

it('never releases a session in use, never loads one twice and never exceeds its bound but for one during a load, however users interleave', async () => {
  const step = fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({ kind: fc.constant('use' as const), id: fc.constantFrom('a', 'b', 'c', 'd', 'e') }),
    },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('give back' as const), which: fc.nat(9) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('expire' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('fail' as const), fails: fc.boolean() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('turn' as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 3 }),
      fc.boolean(),
      fc.array(step, { maxLength: 60, size: 'max' }),
      async (maxModels, hasMemory, steps) => {
        const sessions = new FakeSessions();
        sessions.hasMemory = hasMemory;
        const multiplexer = sessions.multiplexer({ maxModels, idleTimeoutMs: 3 });
        const held: Lease[] = [];
        const pending: Promise<unknown>[] = [];
        for (const current of steps) {
          sessions.now += 1;
          if (current.kind === 'use') {
            pending.push(
              sessions.use(multiplexer, current.id).then(
                (lease) => held.push(lease),
                () => undefined,
              ),
            );
          } else if (current.kind === 'give back') {
            held.splice(current.which % Math.max(1, held.length), 1)[0]?.giveBack();
          } else if (current.kind === 'expire') {
            pending.push(multiplexer.expire());
          } else if (current.kind === 'fail') {
            sessions.failing = current.fails ? new InfermuxError('MODEL_LOAD_FAILED', 'broken') : undefined;
          } else {
            await new Promise(setImmediate);
          }
        }
        const released = multiplexer.releaseAll();
        let isReleased = false;
        void released.then(() => {
          isReleased = true;
        });
        while (!isReleased) {
          for (const lease of held.splice(0)) lease.giveBack();
          await new Promise(setImmediate);
        }
        await Promise.all(pending);
        expect(sessions.violations).toEqual([]);
        expect(sessions.mostLive).toBeLessThanOrEqual(hasMemory ? maxModels + 1 : maxModels);
        expect(sessions.live.size).toBe(0);
        expect(sessions.resident).toEqual({ models: 0, bytes: 0 });
      },
    ),
    { numRuns: 300, interruptAfterTimeLimit: 15_000 },
  );
});

it('what is said to be spare leaves before others, pinned and used ones apart', async () => {
  const sessions = new FakeSessions();
  const multiplexer = sessions.multiplexer({ maxModels: 3 });
  await multiplexer.load(model('a'), { pin: true, replaces: undefined });
  const spare = ['a@1', 'c@1', 'd@1'];
  for (const id of ['b', 'c']) (await sessions.use(multiplexer, id)).giveBack();
  const lease = await multiplexer.lease(model('d'), { spare });
  expect(multiplexer.keys()).toEqual(['d@1', 'b@1', 'a@1']);
  await multiplexer.load(model('e'), { pin: false, spare, replaces: undefined });
  expect(multiplexer.keys()).toEqual(['e@1', 'd@1', 'a@1']);
  lease.giveBack();
  await multiplexer.load(model('f'), { pin: false, spare, replaces: undefined });
  expect(multiplexer.keys()).toEqual(['f@1', 'e@1', 'a@1']);
});
