import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../dist/common/errors.js';
import { ModelLoader } from '../../dist/models/model-loader.js';
import type { RegisteredModel } from '../../dist/models/registered-model.js';
import { FakeClock } from '../support/fakes/fake-clock.js';
import { FakeModelReplica, FakeModelReplicas, gate } from '../support/fakes/fake-model-replicas.js';
import { flush } from '../support/flush.js';

const model = (id: string, key = `${id}@1`): RegisteredModel => ({
  ...{ id, key, version: 1, path: `/${id}`, bytes: 10, format: 'onnx', isPinned: false, fingerprint: key },
});
const A = model('a');
const once = { deployment: 'default', replicas: 1, pin: false, retries: 0 };

let replicas: FakeModelReplicas;
let clock: FakeClock;
let loader: ModelLoader;

beforeEach(() => {
  replicas = new FakeModelReplicas(3);
  clock = new FakeClock();
  loader = new ModelLoader(replicas, clock);
});

describe('load', () => {
  it('takes replicas that have the model first, then those with the fewest models', async () => {
    replicas.all[0]?.models.set('x@1', 'loaded');
    replicas.all[2]?.models.set('a@1', 'loaded').set('x@1', 'loaded');
    await loader.load(A, { ...once, replicas: 2 });
    expect(replicas.log).toEqual(['r1 loads a@1']);
  });

  it('loads on the first replica alone before it loads on the others', async () => {
    const { opened, open } = gate();
    replicas.gates.set('a', opened);
    const loaded = loader.load(A, { ...once, replicas: 'all' });
    await flush();
    expect(replicas.log).toEqual(['r0 loads a@1']);
    open();
    await loaded;
    expect(replicas.log).toEqual(['r0 loads a@1', 'r1 loads a@1', 'r2 loads a@1']);
  });

  it('tries again with growing pauses, as often as it is told to', async () => {
    replicas.fail('a', 2);
    const loaded = loader.load(A, { ...once, retries: 2 });
    const attempts: number[] = [];
    for (const pause of [999, 1, 1_999, 1]) {
      await flush();
      clock.advance(pause);
      await flush();
      attempts.push(replicas.log.length);
    }
    await loaded;
    expect(attempts).toEqual([1, 2, 2, 3]);
  });

  it('fails with the last reason when the retries are used up', async () => {
    replicas.fail('a', 9);
    const loaded = loader.load(A, { ...once, retries: 1 });
    await flush();
    clock.advance(1_000);
    await expect(loaded).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', message: 'a is broken' });
    expect(replicas.log).toHaveLength(2);
  });

  it('does not load what has ended a thread, nor anything without a replica or after the end', async () => {
    replicas.refusal = new InfermuxError('MODEL_LOAD_FAILED', 'it ended a thread');
    await expect(loader.load(A, once)).rejects.toThrow('it ended a thread');
    replicas.refusal = undefined;
    replicas.all.length = 0;
    await expect(loader.load(A, once)).rejects.toMatchObject({ code: 'REPLICA_FAILED' });
    loader.close(new InfermuxError('ENGINE_CLOSED', 'closed'));
    await expect(loader.load(A, once)).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
    expect(replicas.log).toEqual([]);
  });

  it('stops its pauses at the end', async () => {
    replicas.fail('a', 9);
    const loaded = loader.load(A, { ...once, retries: 9 });
    await flush();
    loader.close(new InfermuxError('ENGINE_CLOSED', 'closed'));
    await expect(loaded).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
    expect(clock.timers).toBe(0);
  });
});

describe('unload', () => {
  it('waits for loads under way, and counts what was released', async () => {
    const { opened, open } = gate();
    replicas.gates.set('a', opened);
    const loaded = loader.load(A, { ...once, replicas: 'all' });
    const freed = loader.unload('a@1', 'unloaded');
    await flush();
    expect(replicas.log).toEqual(['r0 loads a@1']);
    open();
    await loaded;
    expect(await freed).toBe(3);
    expect(await loader.unload('a@1', 'unloaded')).toBe(0);
  });

  it('ends the pauses of a load that is to be tried again', async () => {
    replicas.fail('a', 9);
    const loaded = loader.load(A, { ...once, retries: 9 });
    await flush();
    expect(await loader.unload('a@1', 'unloaded')).toBe(0);
    await expect(loaded).rejects.toThrow('a is broken');
    expect([replicas.log.length, clock.timers]).toEqual([1, 0]);
  });

  it('ends that the model is wanted', async () => {
    await loader.load(A, once);
    expect(loader.isWanted('a@1')).toBe(true);
    await loader.unload('a@1', 'unloaded');
    expect(loader.isWanted('a@1')).toBe(false);
  });
});

describe('an express replica', () => {
  it('gets no model here, and loses one that is unloaded', async () => {
    const express = new FakeModelReplica('express', replicas);
    replicas.express = express;
    express.models.set('a@1', 'loaded');
    await loader.load(A, { ...once, replicas: 'all', pin: true });
    await loader.replace(A, model('a', 'a@1#2'), { isLeaving: true, isKept: true });
    expect([...express.models.keys()]).toEqual(['a@1']);
    expect(await loader.unload('a@1', 'replaced')).toBe(4);
    expect([...express.models.keys()]).toEqual([]);
  });

  it('does not count where an old model is looked for', async () => {
    const express = new FakeModelReplica('express', replicas);
    replicas.express = express;
    express.models.set('a@1', 'loaded');
    await loader.replace(A, model('a', 'a@1#2'), { isLeaving: true, isKept: true });
    expect(replicas.log).toEqual(['r0 loads a@1#2 for a@1']);
  });
});

describe('replace', () => {
  const B = model('a', 'a@1#2');
  const how = { isLeaving: true, isKept: false };

  it('loads where the old one is, one replica after the other, and leaves the old one', async () => {
    for (const replica of replicas.all.slice(1)) replica.models.set('a@1', 'loaded');
    await loader.replace(A, B, how);
    expect(replicas.log).toEqual(['r1 loads a@1#2 for a@1', 'r2 loads a@1#2 for a@1']);
    expect(replicas.all[1]?.models.has('a@1')).toBe(true);
  });

  it('takes no place of an old one that stays', async () => {
    replicas.all[1]?.models.set('a@1', 'loaded');
    await loader.replace(A, B, { ...how, isLeaving: false });
    expect(replicas.log).toEqual(['r1 loads a@1#2']);
  });

  it('loads on one replica when none has the old one, and unloads it again unless it is to stay', async () => {
    await loader.replace(A, B, how);
    expect(replicas.log.splice(0)).toEqual(['r0 tries a@1#2', 'r0 unloads a@1#2 unloaded']);
    expect(loader.isWanted(B.key)).toBe(false);
    await loader.replace(A, B, { ...how, isKept: true });
    expect(replicas.log.splice(0)).toEqual(['r0 loads a@1#2 for a@1']);
    await loader.replace(undefined, { ...model('b'), isPinned: true }, how);
    expect(replicas.log).toEqual(['r1 loads b@1 pinned']);
  });

  it('leaves a model wanted whose old one was wanted, though no replica has it any more', async () => {
    await loader.load(A, once);
    replicas.all[0]?.models.clear();
    await loader.replace(A, B, how);
    expect([loader.isWanted(B.key), replicas.all[0]?.models.size]).toEqual([true, 0]);
  });

  it('tries one after the other, so that they take one place together', async () => {
    const { opened, open } = gate();
    replicas.gates.set('a', opened);
    const both = [loader.replace(A, B, how), loader.replace(model('b'), model('b', 'b@1#2'), how)];
    await flush();
    expect(replicas.log).toEqual(['r0 tries a@1#2']);
    open();
    await Promise.all(both);
    expect(replicas.log.slice(1)).toEqual(['r0 unloads a@1#2 unloaded', 'r0 tries b@1#2', 'r0 unloads b@1#2 unloaded']);
  });

  it('fails when the first cannot, and no other tries', async () => {
    for (const replica of replicas.all) replica.models.set('a@1', 'loaded');
    replicas.fail('a', 1);
    await expect(loader.replace(A, B, how)).rejects.toThrow('a is broken');
    expect(replicas.log).toHaveLength(1);
  });
});
