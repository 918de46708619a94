// Loads a model with shared weights, and prints its answer for [1, 1, …] and all warnings.
// Arguments: path of a model with an input x [N, W] and an output y, W, the directory of the weight store.
import { createEngine } from '../../dist/index.js';

const [, , path, width, directory] = process.argv;
const warnings = [];
let compiled = 0;
const ignore = () => undefined;
const engine = await createEngine({
  models: { model: path },
  replicas: 1,
  weights: 'shared',
  weightStore: { directory },
  logger: {
    ...{ debug: ignore, error: ignore },
    info: (_, message) => {
      if (message === 'model compiled for the weight store') compiled += 1;
    },
    warn: ({ reason }, message) => warnings.push(`${message}: ${reason}`),
  },
});
process.stdout.write('loading\n');
const { y } = await engine.run('model', {
  x: { dims: [1, Number(width)], data: new Float32Array(Number(width)).fill(1) },
});
process.stdout.write(
  `${JSON.stringify({ first: y.data[0], compiled, warnings: warnings.filter((text) => !text.startsWith('slow')) })}\n`,
);
await engine.close();
