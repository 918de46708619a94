// Started with --frozen-intrinsics: uses each part of an engine once and prints what came of it, as JSON.
// Arguments: a model with an input x [N, 4] and an output y, a handler's module, a directory to write in.
import { createEngine } from '../../dist/index.js';

const [, , path, handler, directory] = process.argv;
if (!Object.isFrozen(Array.prototype)) throw new Error('start it with --frozen-intrinsics');
const engine = await createEngine({
  models: { double: path },
  replicas: 2,
  deployments: { app: { handler, replicas: 1 }, shared: { weights: 'shared', replicas: 1 } },
  weightStore: { directory },
  checkpoint: { file: `${directory}/checkpoint.json` },
});
const feeds = () => ({ x: { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } });
await engine.endpoints.set('public', { traffic: { double: 1 }, shadow: { 'shared/double': 1 } });
const answers = await Promise.all(Array.from({ length: 100 }, () => engine.run('public', feeds())));
const handled = await engine.run('app', { do: 'echo', value: 'hello' });
const { done } = await engine.deployments.update('default', { replicas: 1 });
await done;
await engine.models.inspect('double');
const refused = await engine.run('none', {}).catch(({ code }) => code);
const text = await engine.metrics.metrics();
const names = (await engine.metrics.getMetricsAsJSON()).map(({ name }) => name);
await engine.close();
const sums = new Set(answers.map(({ y }) => y.data.join()));
process.stdout.write(
  `${JSON.stringify({ sums: [...sums], handled, refused, metrics: names.every((name) => text.includes(name)) })}\n`,
);
