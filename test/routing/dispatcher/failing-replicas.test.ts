import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { codeOf } from '../../support/code-of.js';
import { gate } from '../../support/fakes/fake-model-replicas.js';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { A, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let { clock, dispatcher, given, addReplica, submit } = startDispatcher();

beforeEach(() => {
  ({ clock, dispatcher, given, addReplica, submit } = startDispatcher());
});

describe('failing replicas', () => {
  const crash = (replica: FakeReplica) => replica.crash((error) => dispatcher.removeReplica(replica, error));

  it('gives a request of a dead replica to another one, ahead of those that came later', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    for (const replica of [first, second]) replica.runMs = 100;
    const warm = [submit(A)];
    await work(first);
    const retried = submit(A);
    const later = submit(A);
    crash(first);
    await flush();
    expect(second.requests).toHaveLength(1);
    await work(second);
    await expect(retried).resolves.toMatchObject({ replica: 'r1' });
    await Promise.all([...warm, later]);
    expect((await retried).totalMs).toBeGreaterThanOrEqual(0);
  });

  it('rejects with REPLICA_FAILED when a second replica dies under the request', async () => {
    const replicas = [addReplica('r0'), addReplica('r1'), addReplica('r2')];
    for (const replica of replicas) {
      submit(A);
      replica.runMs = 100;
    }
    await work(...replicas);
    const doomed = submit(A);
    for (let death = 0; death < 2; death += 1) {
      const holder = replicas.find(({ ongoing }) => ongoing > 0) as FakeReplica;
      while (holder.isLoading) holder.step();
      crash(holder);
      await flush();
    }
    expect(await codeOf(doomed)).toBe('REPLICA_FAILED');
  });

  it('does not try a load again that a replica died of', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    const answers = [submit(A), submit(A), submit(A)];
    crash(first);
    await flush();
    expect(await Promise.all(answers.map(codeOf))).toEqual(Array(3).fill('MODEL_LOAD_FAILED'));
    await expect(submit(A)).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', retryAfterMs: 1_000 });
    expect(second.requests).toEqual([]);
    clock.advance(1_000);
    const again = submit(A);
    await work(second);
    expect(await codeOf(again)).toBe('answered');
    // That load ended well, so the next death is the first in a row.
    dispatcher.modelLoaded(second, A, 20, { inputs: [], outputs: [], omittedOutputs: [] });
    dispatcher.removeReplica(second);
    const third = addReplica('r2');
    const last = submit(A);
    crash(third);
    expect(await codeOf(last)).toBe('MODEL_LOAD_FAILED');
    await expect(submit(A)).rejects.toMatchObject({ retryAfterMs: 1_000 });
  });

  it('goes on with a model that another replica has when a replica dies while it loads it', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.runMs = 1_000;
    submit(A);
    await work(first, second);
    const answers = [submit(A), submit(A), submit(A)];
    clock.advance(1_000);
    expect(second.loadUnderWay?.key).toBe('a@1');
    crash(second);
    addReplica('r2');
    clock.advance(500);
    await work(first);
    expect(await Promise.all(answers.map(codeOf))).toEqual(Array(3).fill('answered'));
    expect(given.filter((line) => line.endsWith('r2'))).toEqual([]);
  });

  it('loads that model again when the memory of it fades, though nothing else happens', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.runMs = 100_000;
    submit(A);
    await work(first, second);
    for (let request = 0; request < 3; request += 1) submit(A);
    clock.advance(500);
    crash(second);
    await flush();
    const third = addReplica('r2');
    clock.advance(999);
    expect(third.ongoing).toBe(0);
    clock.advance(1);
    expect(third.loadUnderWay?.key).toBe('a@1');
  });

  it('waits for the load of a replica that leaves, and loads the model elsewhere only when that has ended', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    const { opened, open } = gate();
    first.gone = opened;
    submit(A);
    dispatcher.removeReplica(first);
    const waiting = submit(A);
    clock.advance(10_000);
    expect(second.ongoing).toBe(0);
    open();
    await flush();
    expect(second.loadUnderWay?.key).toBe('a@1');
    await work(second);
    expect(await codeOf(waiting)).toBe('answered');
  });

  it('refuses a model while a replica that was given up is still in its load', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.gone = new Promise(() => undefined);
    submit(A);
    dispatcher.removeReplica(first);
    const waiting = submit(A);
    first.isFailed = true;
    dispatcher.removeReplica(first);
    expect(await codeOf(waiting)).toBe('MODEL_LOAD_FAILED');
    clock.advance(1_000_000);
    expect(await codeOf(submit(A))).toBe('MODEL_LOAD_FAILED');
    expect(second.ongoing).toBe(0);
  });

  it('names the model by its id', async () => {
    const replica = addReplica('r0');
    const answer = submit(A);
    crash(replica);
    await expect(answer).rejects.toThrow('model "a": the replica died while loading the model');
  });

  it('passes a failed load on and does not count the model as warm', async () => {
    const [first] = [addReplica('r0'), addReplica('r1')];
    const answer = submit(A);
    first.failLoad(new InfermuxError('MODEL_LOAD_FAILED', 'broken file'));
    expect(await codeOf(answer)).toBe('MODEL_LOAD_FAILED');
    expect(first.models.size).toBe(0);
  });

  it('refuses what waits and what comes during an outage, and no longer after it', async () => {
    const waiting = submit(A);
    dispatcher.declareOutage(new InfermuxError('REPLICA_FAILED', 'no thread'));
    expect(await codeOf(waiting)).toBe('REPLICA_FAILED');
    expect(await codeOf(submit(A))).toBe('REPLICA_FAILED');
    const replica = addReplica('r0');
    const answer = submit(A);
    await work(replica);
    expect(await codeOf(answer)).toBe('answered');
  });
});

describe('a load that fails where the model is to be had elsewhere', () => {
  it('costs no request: it goes where the model is, and the load is not tried again for a while', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    const before = submit(A);
    await work(first);
    await before;
    const answers = [submit(A)];
    // One that runs for so long that the next one spills.
    clock.advance(10_000);
    answers.push(submit(A), submit(A));
    clock.advance(10_000);
    expect(second.isLoading).toBe(true);
    second.failLoad(new InfermuxError('MODEL_LOAD_FAILED', 'the file was replaced'));
    await flush();
    clock.advance(500);
    expect(second.requests).toEqual([]);
    await work(first);
    await Promise.all(answers);
  });
});
