import { parentPort, workerData } from 'node:worker_threads';
import { openSession } from './session.mjs';

const { model, rows } = workerData;
const infer = await openSession(model);
const dims = [rows, ...model.dims.slice(1)];
const data = new Float32Array(dims.reduce((product, size) => product * size, 1)).fill(0.5);
await infer(data, dims);

parentPort.on('message', async (milliseconds) => {
  const startedAt = performance.now();
  let runs = 0;
  while (performance.now() - startedAt < milliseconds) {
    await infer(data, dims);
    runs += 1;
  }
  parentPort.postMessage((runs * rows * 1_000) / (performance.now() - startedAt));
});
parentPort.postMessage('ready');
