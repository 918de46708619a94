import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { QueueCounters, type ReplicaCounters } from '../../../dist/protocol/queue-counters.js';
import { OnnxSession } from '../../../dist/worker/sessions/onnx-session.js';
import { directory } from '../../support/directories.js';
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

it.skipIf(process.platform !== 'linux')(
  'does not hold against a model that the system could not open its file',
  async () => {
    const path = join(directory(), 'socket');
    const server = createServer().listen(path);
    await new Promise((resolve) => server.once('listening', resolve));
    const counters = new QueueCounters(1).take()?.counters as ReplicaCounters;
    const load = (file: string) => OnnxSession.load({ id: 'a', key: 'a@1', path: file, bytes: 1 }, {}, counters);
    await expect(load(path)).rejects.toMatchObject({
      ...{ code: 'MODEL_LOAD_FAILED', retryable: true, message: expect.stringContaining('ENXIO, no such device') },
    });
    await expect(load('/nowhere/a.onnx')).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', retryable: false });
    server.close();
  },
);
