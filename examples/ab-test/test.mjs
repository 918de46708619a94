import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { createEngine } from 'infermux';

const engine = await createEngine({ models: 'node_modules/infermux/native-models', replicas: 1 });
await engine.endpoints.set('digits', { traffic: { 'digits-mlp': 0.8, 'digits-cnn': 0.2 } });
after(() => engine.close());
const image = { dims: [1, 64], data: new Float32Array(64) };
const modelOf = async (shardKey) => (await engine.infer({ target: 'digits', feeds: { image }, shardKey })).model;

test('a user stays with a model, and about a fifth get the new one', async () => {
  const users = Array.from({ length: 500 }, (_, user) => `user ${user}`);
  const first = await Promise.all(users.map(modelOf));
  assert.deepEqual(await Promise.all(users.map(modelOf)), first);
  const share = first.filter((model) => model === 'digits-cnn').length / users.length;
  assert.ok(share > 0.1 && share < 0.3, `${share}`);
});

test('the program says how the requests were shared', () => {
  const output = execFileSync(process.execPath, ['ab-test.mjs'], { encoding: 'utf8' });
  assert.match(output, /now digits-cnn/);
  assert.ok(Number(/copies (\d+)/.exec(output)?.[1]) > 300);
});
