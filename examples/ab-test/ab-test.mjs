import { createEngine } from 'infermux';

const engine = await createEngine({ models: 'node_modules/infermux/native-models', replicas: 2 });

// One user in five gets the new model. Half of all requests also go to a third one, whose answers nobody sees.
await engine.endpoints.set('digits', {
  traffic: { 'digits-mlp': 0.8, 'digits-cnn': 0.2 },
  shadow: { 'digit-7': 0.5 },
});

const image = { dims: [1, 64], data: new Float32Array(64).fill(8) };
const counts = {};
for (let user = 0; user < 1_000; user += 1) {
  // The same user always gets the same model.
  const { model } = await engine.infer({ target: 'digits', feeds: { image }, shardKey: `user ${user}` });
  counts[model] = (counts[model] ?? 0) + 1;
}
console.log(counts);

// The new model is as good: everybody gets it, from the next request on.
await engine.endpoints.set('digits', { traffic: { 'digits-cnn': 1 } });
const { model } = await engine.infer({ target: 'digits', feeds: { image } });
console.log('now', model);

const shadows = await engine.metrics.getSingleMetric('infermux_shadow_requests_total').get();
console.log('copies', shadows.values[0]?.value ?? 0);
await engine.close();
