import { join } from 'node:path';
import { expect, it } from 'vitest';
import { QueueCounters, type ReplicaCounters } from '../../../dist/protocol/queue-counters.js';
import { OnnxSession } from '../../../dist/worker/sessions/onnx-session.js';
import { modelDirectory, scaleModel } from '../../support/onnx-models.js';

it('runs without a turn of the event loop, and leaves the immediates of others alone', async () => {
  const path = join(modelDirectory({ a: scaleModel(2) }), 'a.onnx');
  const counters = new QueueCounters(1).take()?.counters as ReplicaCounters;
  const session = await OnnxSession.load({ id: 'a', key: 'a@1', path, bytes: 1 }, {}, counters);
  const { setImmediate: before } = globalThis;
  let hasTurned = false;
  const turned = new Promise<void>((resolve) =>
    setImmediate(() => {
      hasTurned = true;
      resolve();
    }),
  );
  const x = { type: 'float32', dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } as const;
  const { y } = await session.run({ x }, undefined);
  expect({ data: y?.data, hasTurned }).toEqual({ data: Float32Array.of(2, 4, 6, 8), hasTurned: false });
  await turned;
  expect(globalThis.setImmediate).toBe(before);
  await session.release();
});
