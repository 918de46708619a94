import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { LoadBackoff } from '../../../dist/routing/placement/load-backoff.js';
import { ModelQueues } from '../../../dist/routing/queues/model-queues.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { gate } from '../../support/fakes/fake-model-replicas.js';
import { flush } from '../../support/flush.js';

interface Loading {
  readonly models: Map<string, 'loading' | 'loaded'>;
  readonly isTrying: (key: string) => boolean;
}

const model = { key: 'a@1', id: 'a', path: '/a.onnx', bytes: 1 };
let clock: FakeClock;
let queues: ModelQueues;
let replicas: Loading[];
let backoff: LoadBackoff;

beforeEach(() => {
  clock = new FakeClock();
  queues = new ModelQueues('auto');
  replicas = Array.from({ length: 3 }, () => {
    const models: Loading['models'] = new Map();
    return { models, isTrying: (key: string) => models.get(key) === 'loading' };
  });
  const warm = (key: string) => replicas.filter(({ models }) => models.has(key)).map((replica) => ({ replica }));
  backoff = new LoadBackoff(queues, { warm }, clock);
});

const [first, second, third] = [0, 1, 2].map((index) => () => replicas[index] as Loading) as [
  () => Loading,
  () => Loading,
  () => Loading,
];

/** Begins to load in its turn on the replica. */
function load(replica: Loading): Promise<void> {
  return backoff.inTurn(model, replica, async () => {
    replica.models.set(model.key, 'loading');
  });
}

function loadEnds({ models }: Loading, how: 'loaded' | 'failed'): void {
  if (how === 'failed') models.delete(model.key);
  else {
    models.set(model.key, 'loaded');
    queues.of(model).hasLoaded = true;
  }
  backoff.loadEnded(model.key);
}

describe('a model that has never loaded', () => {
  it('is tried by one replica at a time until it has loaded', async () => {
    const [one, two, three] = [load(first()), load(second()), load(third())];
    await one;
    await flush();
    expect(replicas.map(({ models }) => models.size)).toEqual([1, 0, 0]);
    expect([backoff.isOnTrial(model.key), backoff.mayLoad(model.key)]).toEqual([true, false]);
    loadEnds(first(), 'failed');
    await two;
    await flush();
    expect(replicas.map(({ models }) => models.size)).toEqual([0, 1, 0]);
    loadEnds(second(), 'loaded');
    await three;
    expect([backoff.isOnTrial(model.key), backoff.mayLoad(model.key)]).toEqual([false, true]);
  });

  it('is loaded anywhere at any time from then on, also when all of its sessions have left', async () => {
    await load(first());
    loadEnds(first(), 'loaded');
    first().models.clear();
    await Promise.all([load(first()), load(second()), load(third())]);
    expect(replicas.map(({ models }) => models.size)).toEqual([1, 1, 1]);
  });

  it('is not waited for by a replica that is loading it already', async () => {
    await load(first());
    await load(first());
    expect(backoff.isOnTrial(model.key)).toBe(true);
  });
});

describe('a load that ended or outlasted its replica', () => {
  const crash = new InfermuxError('REPLICA_FAILED', 'replica r0 failed: out of memory');

  it('is refused for a growing while', async () => {
    backoff.replicaLeft(model, crash, Promise.resolve());
    await flush();
    expect(backoff.loadRefusal(model.key)).toMatchObject({
      ...{ code: 'MODEL_LOAD_FAILED', retryAfterMs: 1_000 },
      message: expect.stringContaining('model "a": the replica died while loading the model'),
    });
    clock.advance(1_000);
    expect(backoff.mayLoad(model.key)).toBe(true);
    backoff.replicaLeft(model, crash, Promise.resolve());
    expect(backoff.loadRefusal(model.key)?.retryAfterMs).toBe(2_000);
  });

  it('is refused for as long as the thread is still in it', async () => {
    const { opened: gone, open } = gate();
    const cause = new InfermuxError('MODEL_LOAD_FAILED', 'model "a" did not load within 5 ms');
    backoff.replicaLeft(model, new InfermuxError('REPLICA_FAILED', 'given up', { cause }), gone);
    await flush();
    for (let second = 0; second < 100; second += 1) {
      expect(backoff.loadRefusal(model.key)).toMatchObject({ message: cause.message, retryAfterMs: 1_000 });
      clock.advance(1_000);
    }
    clock.advance(700);
    expect([backoff.mayLoad(model.key), backoff.mayLoadInMs(model.key)]).toEqual([false, 300]);
    open();
    await flush();
    expect(backoff.loadRefusal(model.key)).toBeUndefined();
  });

  it('is what a caller hears whose replica was lost with it', async () => {
    const lost = backoff.inTurn(model, first(), async () => {
      backoff.replicaLeft(model, crash, Promise.resolve());
      throw crash;
    });
    await expect(lost).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED' });
    await expect(load(second())).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', retryAfterMs: 1_000 });
  });

  it('leaves other errors of a load as they are', async () => {
    const failed = backoff.inTurn(model, first(), () => Promise.reject(crash));
    await expect(failed).rejects.toBe(crash);
  });
});
