import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FakeSessions, model } from '../../../support/fakes/fake-sessions.js';

/** Which models are there by what was told of them, in order. */
function toldOf(log: readonly string[]): Set<string> {
  const models = new Set<string>();
  for (const line of log) {
    const [what, key = ''] = line.split(' ');
    if (what === 'loaded') models.add(key);
    if (what === 'unloaded') models.delete(key);
  }
  return models;
}

describe('one who holds a session while it asks for another', () => {
  it('gets it, though there is no room but by what it holds, and there is as soon as it lets go', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ maxModels: 1 });
    const leases = await Promise.all(['a', 'b', 'c', 'a'].map((id) => multiplexer.hold(model(id))));
    expect([sessions.mostLive, multiplexer.keys().length]).toEqual([3, 3]);
    for (const lease of leases) await lease.giveBack();
    expect([multiplexer.keys().length, sessions.live.size, sessions.violations]).toEqual([1, 1, []]);
  });

  it('is not waited for by what comes between, and what it holds is released when it lets go', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ maxModels: 1 });
    const held = multiplexer.hold(model('a'));
    const freed = multiplexer.unload('a@1', 'unloaded');
    const { giveBack } = await held;
    // After the unload in the chain, and not behind it.
    const other = await multiplexer.hold(model('b'));
    expect(sessions.live).toEqual(new Set(['a@1', 'b@1']));
    await giveBack();
    expect(await freed).toBe(100);
    await other.giveBack();
    expect([sessions.live, sessions.violations]).toEqual([new Set(['b@1']), []]);
  });

  it('whatever is held, leased, unloaded and given back in whatever order, all ends and nothing is released in use', async () => {
    const operation = fc.record({
      kind: fc.constantFrom('hold', 'hold two', 'lease', 'unload', 'give back'),
      id: fc.constantFrom('a', 'b', 'c'),
      other: fc.constantFrom('a', 'b', 'c'),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(operation, { maxLength: 30 }),
        fc.integer({ min: 1, max: 2 }),
        async (story, maxModels) => {
          const sessions = new FakeSessions();
          sessions.mayHaveTwo = true;
          const multiplexer = sessions.multiplexer({ maxModels });
          const unloads: Promise<number>[] = [];
          // Each request takes what it takes in turn, and lets go at its end.
          const requests: Promise<void>[] = [];
          const ends: (() => void)[] = [];
          for (const { kind, id, other } of story) {
            if (kind === 'unload') unloads.push(multiplexer.unload(`${id}@1`, 'unloaded'));
            else if (kind === 'give back') ends.shift()?.();
            else if (kind === 'lease') {
              requests.push(sessions.use(multiplexer, id).then((lease) => lease.giveBack()));
            } else {
              const isOver = new Promise<void>((resolve) => ends.push(resolve));
              const ids = kind === 'hold' ? [id] : [id, other];
              requests.push(
                (async () => {
                  const leases = [];
                  for (const one of ids) leases.push(await multiplexer.hold(model(one)));
                  await isOver;
                  for (const { giveBack } of leases) await giveBack();
                })(),
              );
            }
            if (story.length % 2 === 0) await Promise.resolve();
          }
          for (const end of ends.splice(0)) end();
          await Promise.all([...requests, ...unloads]);
          await multiplexer.unfinished();
          expect(multiplexer.unfinished()).toBeUndefined();
          expect(multiplexer.keys().length).toBeLessThanOrEqual(maxModels);
          expect(sessions.live).toEqual(new Set(multiplexer.keys()));
          expect(sessions.resident.models).toBe(multiplexer.keys().length);
          expect(sessions.violations).toEqual([]);
          expect(toldOf(sessions.log)).toEqual(sessions.live);
        },
      ),
      { numRuns: 300 },
    );
  });
});
