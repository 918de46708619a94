import { join } from 'node:path';
import { expect, it } from 'vitest';
import { QueueCounters, type ReplicaCounters } from '../../../dist/protocol/queue-counters.js';
import { createEviction } from '../../../dist/worker/sessions/eviction-policies.js';
import { ModelMultiplexer, type MultiplexerEvents } from '../../../dist/worker/sessions/model-multiplexer.js';
import { OnnxSession } from '../../../dist/worker/sessions/onnx-session.js';
import { modelDirectory, scaleModel } from '../../support/onnx-models.js';

it('never releases a real session that runs, though every run is overtaken by an eviction', async () => {
  const ids = ['a', 'b', 'c'];
  const directory = modelDirectory(Object.fromEntries(ids.map((id, index) => [id, scaleModel(index + 1)])));
  const counters = new QueueCounters(1).take()?.counters as ReplicaCounters;
  let evictions = 0;
  const ignore = () => undefined;
  const events: MultiplexerEvents = {
    loading: ignore,
    loaded: ignore,
    changedOver: ignore,
    loadFailed: ignore,
    releaseFailed: (key, error) => expect.fail(`${key}: ${error}`),
    resident: (models) => expect(models).toBeLessThanOrEqual(1),
    unloaded: () => {
      evictions += 1;
    },
  };
  const multiplexer = new ModelMultiplexer(
    { maxModels: 1, maxBytes: -1, eviction: createEviction('lru', () => 0), idleTimeoutMs: -1 },
    {
      load: (model) => OnnxSession.load(model, {}, counters),
      loadShared: async () => undefined,
      mayLoadBeside: () => false,
      check: async () => undefined,
    },
    events,
    () => performance.now(),
  );
  const x = { type: 'float32', dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } as const;
  const run = async (index: number) => {
    const id = ids[index % ids.length] as string;
    const lease = await multiplexer.lease({ id, key: `${id}@1`, bytes: 1, path: join(directory, `${id}.onnx`) });
    try {
      // By the next turn another lease has asked for this session's place.
      await new Promise(setImmediate);
      const { y } = await lease.session.run({ x }, undefined);
      return y?.data[1] === 2 * ((index % ids.length) + 1);
    } finally {
      lease.giveBack();
    }
  };
  const user = async (first: number) => {
    for (let index = first; index < first + 30; index += 1) expect(await run(index)).toBe(true);
  };
  await Promise.all([0, 1, 2, 3, 4].map(user));
  expect(evictions).toBeGreaterThan(10);
  await multiplexer.releaseAll();
  expect(counters.isInNativeCall).toBe(false);
});
