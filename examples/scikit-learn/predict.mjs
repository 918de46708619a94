import { createEngine } from 'infermux';

const engine = await createEngine({ models: new URL('models', import.meta.url) });
const customers = [
  { plan: 'free', usage: 0.2 },
  { plan: 'pro', usage: 2.5 },
  { plan: 'team', usage: 0.1 },
];
// A column of the data frame is an input of the model: one row for each customer.
const dims = [customers.length, 1];
const { label, probabilities } = await engine.run('churn', {
  plan: { dims, data: customers.map(({ plan }) => plan) },
  usage: { dims, data: Float32Array.from(customers, ({ usage }) => usage) },
});
for (const [row, customer] of customers.entries()) {
  const shares = Array.from(probabilities.data.slice(2 * row, 2 * row + 2), (share) => share.toFixed(2)).join(' ');
  console.log(JSON.stringify(customer), label.data[row], shares);
}
await engine.close();
