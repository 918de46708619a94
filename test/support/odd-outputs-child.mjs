// Serves a model with outputs that onnxruntime-node cannot carry, which would end the process if one were fetched, and
// prints what it answers. Arguments: path of a model with an input x [N, 2] and an output label, -x; its weights, private
// or shared; the weight store's directory.
import { createEngine } from '../../dist/index.js';

const [, , path, weights, directory] = process.argv;
const engine = await createEngine({
  ...{ models: { model: path }, replicas: 2, weights, weightStore: { directory } },
  deployments: { app: { handler: new URL('./handler.mjs', import.meta.url), replicas: 1 } },
});
const feeds = (value) => ({ x: { dims: [1, 2], data: Float32Array.of(value, 1) } });
const wrong = [];
let batches = 0;
const ask = async (value, options) => {
  const { outputs, batchSize } = await engine.infer({ target: 'model', feeds: feeds(value), ...options });
  if (batchSize > 1) batches += 1;
  if (Object.keys(outputs).join() !== 'label' || outputs.label.data[0] !== -value) wrong.push(outputs);
};
for (let round = 0; round < 20; round += 1) {
  await Promise.all(
    Array.from({ length: 64 }, (_, index) => ask(index, index % 2 === 0 ? {} : { outputs: ['label'] })),
  );
  if (round % 5 === 4) await engine.models.unload('model');
}
const { omittedOutputs } = await engine.models.inspect('model');
const refused = await Promise.all(
  omittedOutputs.map(({ name }) =>
    engine.run('model', feeds(1), { outputs: ['label', name] }).catch(({ code }) => code),
  ),
);
// The handler's way to a model is another than that of requests.
const handled = await engine.run('app', { do: 'odd outputs', model: 'model', feeds: feeds(3) });
await engine.close();
process.stdout.write(`${JSON.stringify({ wrong, hasBatched: batches > 0, refused, handled })}\n`);
