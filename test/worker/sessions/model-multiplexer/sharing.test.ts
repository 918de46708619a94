import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { gate } from '../../../support/fakes/fake-model-replicas.js';
import { FakeSessions, model } from '../../../support/fakes/fake-sessions.js';
import { flush } from '../../../support/flush.js';

async function withOne() {
  const sessions = new FakeSessions();
  sessions.mayHaveTwo = true;
  const multiplexer = sessions.multiplexer();
  const lease = await multiplexer.lease(model('a'));
  sessions.log.length = 0;
  return { sessions, multiplexer, lease };
}

describe('a session that is to share its weights', () => {
  it('gives way to one that does, under the same key, and is released', async () => {
    const { sessions, multiplexer, lease } = await withOne();
    lease.giveBack();
    sessions.isPrepared = true;
    await multiplexer.shareWeights('a@1');
    expect([sessions.log, sessions.resident, sessions.violations]).toEqual([
      ['shares a@1'],
      { models: 1, bytes: 100 },
      [],
    ]);
    const next = await multiplexer.lease(model('a'));
    expect([next.session.weights, next.session === lease.session, next.loadMs]).toEqual(['shared', false, 0]);
    next.giveBack();
    await multiplexer.shareWeights('a@1');
    expect(sessions.log).toEqual(['shares a@1']);
    await multiplexer.releaseAll();
    expect(sessions.live.size).toBe(0);
  });

  it('stays while it is in use, while nothing is prepared, and where there is none', async () => {
    const { sessions, multiplexer, lease } = await withOne();
    await multiplexer.shareWeights('b@1');
    sessions.isPrepared = true;
    await multiplexer.shareWeights('a@1');
    lease.giveBack();
    sessions.isPrepared = false;
    await multiplexer.shareWeights('a@1');
    expect([sessions.log, multiplexer.leaseLoaded('a@1')?.session.weights]).toEqual([[], 'private']);
  });

  it('stays when somebody takes it while the other one is loaded, and when that fails', async () => {
    const { sessions, multiplexer, lease } = await withOne();
    lease.giveBack();
    sessions.isPrepared = true;
    const { opened, open } = gate();
    sessions.gate = opened;
    const shared = multiplexer.shareWeights('a@1');
    await flush();
    const taken = multiplexer.leaseLoaded('a@1');
    open();
    await shared;
    expect([taken?.session === lease.session, sessions.log, sessions.live.size]).toEqual([true, [], 1]);
    taken?.giveBack();
    sessions.failing = new Error('no memory') as never;
    await expect(multiplexer.shareWeights('a@1')).rejects.toThrow('no memory');
    expect(multiplexer.leaseLoaded('a@1')?.session).toBe(lease.session);
  });

  it('is never released in use, and none is left, whatever comes in between', async () => {
    const step = fc.record({
      kind: fc.constantFrom('lease', 'share', 'unload', 'give back', 'prepare'),
      id: fc.constantFrom('a', 'b', 'c'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (story) => {
        const sessions = new FakeSessions();
        sessions.mayHaveTwo = true;
        const multiplexer = sessions.multiplexer();
        const ends: (() => void)[] = [];
        const work: Promise<unknown>[] = [];
        for (const { kind, id } of story) {
          if (kind === 'lease') {
            const { opened, open } = gate();
            ends.push(open);
            work.push(sessions.use(multiplexer, id).then((lease) => opened.then(() => lease.giveBack())));
          } else if (kind === 'share') work.push(multiplexer.shareWeights(`${id}@1`));
          else if (kind === 'unload') work.push(multiplexer.unload(`${id}@1`, 'unloaded'));
          else if (kind === 'give back') ends.shift()?.();
          else sessions.isPrepared = true;
          await flush();
        }
        for (const end of ends) end();
        await Promise.all(work);
        await multiplexer.releaseAll();
        expect([sessions.violations, sessions.live.size]).toEqual([[], 0]);
      }),
    );
  });
});
