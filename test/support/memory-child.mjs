// Prints the bytes that a request leaves in the old generation of the calling thread, where only a collection of the
// whole heap finds garbage. Run it with --expose-gc and a small young generation, which a request soon leaves.
// Argument: the path of a model with an input x [N, 4].
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { getHeapSpaceStatistics } from 'node:v8';
import { createEngine } from '../../dist/index.js';

const REQUESTS = 5_000;
const TIMES = 5;

let fullCollections = 0;
new PerformanceObserver((list) => {
  for (const { detail } of list.getEntries())
    if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) fullCollections += 1;
}).observe({ entryTypes: ['gc'] });

const oldBytes = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space').space_used_size;

const engine = await createEngine({ models: { model: process.argv[2] }, replicas: 1 });
const run = async () => {
  for (let request = 0; request < REQUESTS; request += 1) {
    await engine.run('model', { x: { dims: [1, 4], data: new Float32Array(4) } });
  }
};
await run();
// Long-lived objects are in the old generation from now on, and must not hold on to later objects.
globalThis.gc();

const left = [];
for (let time = 0; time < TIMES; time += 1) {
  const [bytes, collections] = [oldBytes(), fullCollections];
  await run();
  // The observer hears of a collection a little later.
  await sleep(10);
  if (fullCollections === collections) left.push((oldBytes() - bytes) / REQUESTS);
}
await engine.close();
process.stdout.write(`${left.sort((one, other) => one - other)[left.length >> 1]}\n`);
