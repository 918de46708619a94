// Prints the resident memory after some cycles of loading, running and unloading a model, and after 200 more, in megabytes.
// Arguments: path of a model with an input x [N, W] and an output y, W, private or shared, the directory of the weight store.
import { createEngine } from '../../dist/index.js';

const [, , path, width, weights, directory] = process.argv;
const engine = await createEngine({ models: { model: path }, replicas: 2, weights, weightStore: { directory } });
const feeds = { x: { dims: [1, Number(width)], data: new Float32Array(Number(width)) } };
const cycles = async (count) => {
  for (let cycle = 0; cycle < count; cycle += 1) {
    await engine.models.load('model', { replicas: 'all' });
    await engine.run('model', feeds);
    if ((await engine.models.unload('model')) === 0) throw new Error('nothing was unloaded');
  }
  return process.memoryUsage.rss() / 1e6;
};
await cycles(50);
const before = await cycles(1);
const after = await cycles(200);
process.stdout.write(`${JSON.stringify({ before, after })}\n`);
await engine.close();
