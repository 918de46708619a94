import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../../dist/common/errors.js';
import { FakeSessions, model } from '../../../support/fakes/fake-sessions.js';

describe('loading', () => {
  it('loads once for all who ask at the same time and reports loading before the load ends', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    let open: () => void = () => undefined;
    sessions.gate = new Promise((resolve) => {
      open = resolve;
    });
    const leases = Promise.all(Array.from({ length: 10 }, () => multiplexer.lease(model('a'))));
    await new Promise(setImmediate);
    expect(sessions.log).toEqual(['loading a@1']);
    open();
    await leases;
    expect(sessions.log).toEqual(['loading a@1', 'loaded a@1']);
  });

  it('says how long a caller waited for a load, and 0 for a session that was there', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    sessions.gate = Promise.resolve().then(() => {
      sessions.now = 25;
    });
    expect((await multiplexer.lease(model('a'))).loadMs).toBe(25);
    expect((await multiplexer.lease(model('a'))).loadMs).toBe(0);
  });

  it.each([
    [42, 'must be a string'],
    ['', 'cannot be empty'],
  ])('refuses %j as a model id', async (id, message) => {
    const multiplexer = new FakeSessions().multiplexer();
    const lease = multiplexer.lease({ ...model('a'), id: id as string });
    await expect(lease).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) });
  });

  it('remembers a failed load for a while that doubles, and is not loaded meanwhile', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    sessions.failing = new InfermuxError('MODEL_LOAD_FAILED', 'broken');
    await expect(multiplexer.lease(model('a'))).rejects.toThrow('broken');
    sessions.now = 999;
    await expect(multiplexer.lease(model('a'))).rejects.toMatchObject({ message: 'broken', retryAfterMs: 1 });
    expect(sessions.log.filter((line) => line.startsWith('loading'))).toHaveLength(1);
    sessions.now = 1_000;
    await expect(multiplexer.lease(model('a'))).rejects.toThrow('broken');
    sessions.now = 2_500;
    await expect(multiplexer.lease(model('a'))).rejects.toMatchObject({ retryAfterMs: 500 });
    sessions.failing = undefined;
    sessions.now = 3_000;
    await multiplexer.lease(model('a'));
    expect(multiplexer.keys()).toEqual(['a@1']);
  });

  it('begins with the shortest while again once the model has loaded', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer({ maxModels: 1 });
    const broken = new InfermuxError('MODEL_LOAD_FAILED', 'broken');
    for (const failing of [broken, broken, undefined]) {
      sessions.failing = failing;
      await multiplexer.lease(model('a')).then(
        ({ giveBack }) => giveBack(),
        () => undefined,
      );
      sessions.now += 2_000;
    }
    (await multiplexer.lease(model('b'))).giveBack();
    sessions.failing = broken;
    await expect(multiplexer.lease(model('a'))).rejects.toThrow('broken');
    await expect(multiplexer.lease(model('a'))).rejects.toMatchObject({ retryAfterMs: 1_000 });
  });

  it('does not remember a load that was refused because the thread stops', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    sessions.failing = new InfermuxError('REPLICA_FAILED', 'the replica is stopping');
    await expect(multiplexer.lease(model('a'))).rejects.toThrow('stopping');
    sessions.failing = undefined;
    await multiplexer.lease(model('a'));
    expect(multiplexer.keys()).toEqual(['a@1']);
  });

  it('refuses a model that is larger than all the room there is', async () => {
    const multiplexer = new FakeSessions().multiplexer({ maxBytes: 99 });
    await expect(multiplexer.lease(model('a'))).rejects.toMatchObject({
      code: 'MODEL_LOAD_FAILED',
      message: expect.stringContaining('maxModelBytesPerReplica is 99'),
    });
  });
});
