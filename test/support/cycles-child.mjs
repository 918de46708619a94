// Loads, runs and unloads a model in cycles. Prints the least resident memory in megabytes of 20 cycles after 200 to
// warm up, and of 20 more after another 200.
// Arguments: path of a model with an input x [N, W] and an output y, W, private or shared, the weight store's directory.
import { createEngine } from '../../dist/index.js';

const [, , path, width, weights, directory] = process.argv;
const engine = await createEngine({ models: { model: path }, replicas: 2, weights, weightStore: { directory } });
const feeds = { x: { dims: [1, Number(width)], data: new Float32Array(Number(width)) } };
const cycles = async (count) => {
  let least = Number.POSITIVE_INFINITY;
  for (let cycle = 0; cycle < count; cycle += 1) {
    await engine.models.load('model', { replicas: 'all' });
    await engine.run('model', feeds);
    if ((await engine.models.unload('model')) === 0) throw new Error('nothing was unloaded');
    least = Math.min(least, process.memoryUsage.rss() / 1e6);
  }
  return least;
};
// The JavaScript heaps of the threads grow until then.
await cycles(200);
const before = await cycles(20);
await cycles(180);
const after = await cycles(20);
process.stdout.write(`${JSON.stringify({ before, after })}\n`);
await engine.close();
