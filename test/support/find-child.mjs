// Runs a model that a finder finds on a server, and prints the answer. Arguments: the URL, the directory of the cache.
import { createEngine } from '../../dist/index.js';

const [, , url, directory] = process.argv;
const engine = await createEngine({
  models: { find: () => ({ url, allowHttp: true }) },
  modelCache: { directory },
  replicas: 1,
});
process.stdout.write('ready\n');
const { y } = await engine.run('m', { x: { dims: [1, 4], data: Float32Array.of(5, 0, 0, 0) } });
process.stdout.write(`${y.data[0]}\n`);
await engine.close();
