import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../../dist/common/errors.js';
import { FakeSessions, model } from '../../../support/fakes/fake-sessions.js';

describe('models that are pinned, unloaded and replaced', () => {
  const plain = { pin: false, replaces: undefined };
  const pinned = { pin: true, replaces: undefined };

  it('are never evicted nor expire while they are pinned', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ idleTimeoutMs: 10 });
    await multiplexer.load(model('a'), pinned);
    for (const id of ['b', 'c', 'd']) (await sessions.use(multiplexer, id)).giveBack();
    sessions.now = 100;
    await multiplexer.expire();
    expect(multiplexer.keys()).toEqual(['a@1']);
    expect(await multiplexer.unload('a@1', 'unloaded')).toBe(100);
    expect(sessions.log.at(-1)).toBe('unloaded a@1 unloaded');
  });

  it('leave one place for the others', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    await multiplexer.load(model('a'), pinned);
    const refusal = { code: 'FAILED_PRECONDITION', message: expect.stringContaining('cannot be pinned') };
    await expect(multiplexer.load(model('b'), pinned)).rejects.toMatchObject(refusal);
    await multiplexer.load(model('b'), plain);
    await multiplexer.load(model('c'), plain);
    expect(multiplexer.keys()).toEqual(['c@1', 'a@1']);
  });

  it('say so when they leave too few bytes for another, which is not the fault of that one', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ maxModels: 9, maxBytes: 250 });
    await multiplexer.load(model('a', 200), pinned);
    const refusal = { code: 'FAILED_PRECONDITION', message: expect.stringContaining('pinned models: "a@1"') };
    await expect(multiplexer.load(model('b'), plain)).rejects.toMatchObject(refusal);
    await multiplexer.unload('a@1', 'unloaded');
    await multiplexer.load(model('b'), plain);
    expect(multiplexer.keys()).toEqual(['b@1']);
  });

  it('are not pinned when their load fails', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    sessions.failing = new InfermuxError('MODEL_LOAD_FAILED', 'broken');
    await expect(multiplexer.load(model('a'), pinned)).rejects.toThrow('broken');
    sessions.failing = undefined;
    await multiplexer.load(model('b'), pinned);
    expect(multiplexer.keys()).toEqual(['b@1']);
  });

  it('have a place beside the one that they replace, pinned or not', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    await multiplexer.load(model('a'), pinned);
    await multiplexer.load(model('b'), plain);
    await multiplexer.load(model('c'), { pin: true, replaces: 'a@1' });
    expect(multiplexer.keys()).toEqual(['c@1', 'b@1', 'a@1']);
    await multiplexer.unload('a@1', 'replaced');
    for (const id of ['d', 'e']) await multiplexer.load(model(id), plain);
    expect(multiplexer.keys()).toEqual(['e@1', 'c@1']);
    expect(sessions.mostLive).toBe(3);
  });

  it('are released after a load under way and after their last user, and 0 bytes are freed of what is not there', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    const lease = sessions.use(multiplexer, 'a');
    const freed = multiplexer.unload('a@1', 'unloaded');
    let isFreed = false;
    void freed.then(() => {
      isFreed = true;
    });
    const { giveBack } = await lease;
    await new Promise(setImmediate);
    expect(isFreed).toBe(false);
    giveBack();
    expect([await freed, await multiplexer.unload('a@1', 'unloaded'), sessions.violations]).toEqual([100, 0, []]);
  });

  it('tell how long nobody had used them', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ maxModels: 1 });
    sessions.now = 5;
    await multiplexer.load(model('a'), plain);
    sessions.now = 12;
    await multiplexer.load(model('b'), plain);
    expect(sessions.idleMs).toEqual([7]);
  });
});
