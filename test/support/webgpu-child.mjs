// Sends the same requests to a deployment on the CPU and to one on WebGPU, before, during and after a rolling update of
// the latter, and writes the largest difference between their answers as JSON: node webgpu-child.mjs <models>
import { createEngine } from '../../dist/index.js';

const engine = await createEngine({
  models: process.argv[2],
  replicas: 1,
  deployments: { gpu: { session: { executionProviders: ['webgpu'] } } },
});

/** Some strokes, the same in every run. */
const images = Array.from({ length: 24 }, (_, image) =>
  Float32Array.from({ length: 64 }, (__, pixel) => ((7 * pixel + 13 * image) % 17 > 8 ? 16 : (pixel * image) % 5)),
);
const ask = (target) =>
  Promise.all(images.map((data) => engine.infer({ target, feeds: { image: { dims: [1, 64], data } } })));

async function compare(model) {
  const [onCpu, onGpu] = await Promise.all([ask(model), ask(`gpu/${model}`)]);
  let difference = 0;
  for (const [index, { outputs }] of onGpu.entries()) {
    for (const [name, { data }] of Object.entries(outputs)) {
      for (const [position, value] of data.entries()) {
        difference = Math.max(difference, Math.abs(value - onCpu[index].outputs[name].data[position]));
      }
    }
  }
  const deployments = [...new Set([...onCpu, ...onGpu].map(({ deployment }) => deployment))];
  return { model, difference, deployments, batch: Math.max(...onGpu.map(({ batchSize }) => batchSize)) };
}

const results = [];
for (const model of ['digits-mlp', 'digits-cnn', 'digit-3', 'digits-mlp']) results.push(await compare(model));
const goal = await engine.deployments.update('gpu', { maxModelsPerReplica: 2 });
results.push(await compare('digits-mlp'));
const update = await goal.done;
results.push(await compare('digits-mlp'));
await engine.close();
process.stdout.write(JSON.stringify({ results, update }));
