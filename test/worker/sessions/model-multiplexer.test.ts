import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import type { ModelReference } from '../../../dist/contracts/model-reference.js';
import { createEviction } from '../../../dist/worker/sessions/eviction-policies.js';
import {
  type Lease,
  ModelMultiplexer,
  type MultiplexerOptions,
} from '../../../dist/worker/sessions/model-multiplexer.js';

const model = (id: string, bytes = 100): ModelReference => ({
  ...{ id, bytes },
  key: `${id}@1`,
  path: `/nowhere/${id}.onnx`,
});

/** Sessions without onnxruntime, which keep a record of what is done to them. */
class FakeSessions {
  readonly log: string[] = [];
  readonly idleMs: number[] = [];
  readonly violations: string[] = [];
  readonly running = new Map<string, number>();
  readonly live = new Set<string>();
  mostLive = 0;
  now = 0;
  failing: InfermuxError | undefined;
  resident = { models: 0, bytes: 0 };
  /** When set, loads wait for it. */
  gate: Promise<void> | undefined;
  /** Whether a model may be loaded anew before a session of it is released, because somebody holds that. */
  mayHaveTwo = false;
  readonly #instances = new Map<string, number>();

  multiplexer(options: Partial<MultiplexerOptions> = {}): ModelMultiplexer {
    return new ModelMultiplexer(
      { maxModels: 2, maxBytes: -1, eviction: createEviction('lru', () => 0), idleTimeoutMs: -1, ...options },
      { load: (reference) => this.#load(reference.key) },
      {
        loading: (key) => this.log.push(`loading ${key}`),
        loaded: ({ key }) => this.log.push(`loaded ${key}`),
        loadFailed: (key, { code }) => this.log.push(`failed ${key} ${code}`),
        unloaded: (key, reason, _, idleMs) => {
          this.log.push(`unloaded ${key} ${reason}`);
          this.idleMs.push(idleMs);
        },
        releaseFailed: (key) => this.log.push(`release failed ${key}`),
        resident: (models, bytes) => {
          this.resident = { models, bytes };
        },
      },
      () => this.now,
    );
  }

  async #load(key: string) {
    await this.gate;
    if (this.failing !== undefined) throw this.failing;
    const others = this.#instances.get(key) ?? 0;
    if (others > 0 && !this.mayHaveTwo) this.violations.push(`${key} loaded twice`);
    this.#instances.set(key, others + 1);
    this.live.add(key);
    this.mostLive = Math.max(this.mostLive, this.live.size);
    let isReleased = false;
    return {
      metadata: { inputs: [], outputs: [] },
      run: async () => ({}),
      release: async () => {
        if ((this.running.get(key) ?? 0) > 0) this.violations.push(`${key} released while it ran`);
        if (isReleased) this.violations.push(`${key} released twice`);
        isReleased = true;
        const left = (this.#instances.get(key) ?? 0) - 1;
        this.#instances.set(key, left);
        if (left === 0) this.live.delete(key);
      },
    };
  }

  async use(multiplexer: ModelMultiplexer, id: string): Promise<Lease> {
    const lease = await multiplexer.lease(model(id));
    const key = `${id}@1`;
    if (!this.live.has(key)) this.violations.push(`${key} leased after its release`);
    this.running.set(key, (this.running.get(key) ?? 0) + 1);
    return {
      ...lease,
      giveBack: () => {
        this.running.set(key, (this.running.get(key) ?? 0) - 1);
        lease.giveBack();
      },
    };
  }
}

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

describe('making room', () => {
  it('evicts the least recently used session, and only when the bound requires it', async () => {
    const sessions = new FakeSessions();
    const multiplexer = sessions.multiplexer();
    for (const id of ['a', 'b', 'a']) (await sessions.use(multiplexer, id)).giveBack();
    sessions.log.length = 0;
    (await sessions.use(multiplexer, 'c')).giveBack();
    expect(sessions.log).toEqual(['unloaded b@1 evicted', 'loading c@1', 'loaded c@1']);
    expect(sessions.resident).toEqual({ models: 2, bytes: 200 });
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

it('never releases a session in use, never loads one twice and never exceeds its bound, however users interleave', async () => {
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
      fc.array(step, { maxLength: 60, size: 'max' }),
      async (maxModels, steps) => {
        const sessions = new FakeSessions();
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
        expect(sessions.mostLive).toBeLessThanOrEqual(maxModels);
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
