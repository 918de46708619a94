import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createEngine } from 'infermux';

const engine = await createEngine({ models: 'models', replicas: 1 });
after(() => engine.close());
const predict = (plan, usage) =>
  engine.run('churn', { plan: { dims: [1, 1], data: [plan] }, usage: { dims: [1, 1], data: [usage] } });

test('strings go in, and come out', async () => {
  const { label, probabilities } = await predict('pro', 2.5);
  assert.deepEqual([label.type, label.data], ['string', ['stays']]);
  assert.equal(probabilities.dims[1], 2);
});

test('a plan that the model does not know counts as none', async () => {
  assert.equal((await predict('something else', 0)).label.data[0], 'leaves');
});

test('requests with strings are joined as others are', async () => {
  const plans = ['free', 'pro', 'team'];
  const results = await Promise.all(Array.from({ length: 60 }, (_, index) => predict(plans[index % 3], 0.1)));
  const alone = await Promise.all(plans.map((plan) => predict(plan, 0.1)));
  for (const [index, { label }] of results.entries()) assert.deepEqual(label.data, alone[index % 3].label.data);
});
