import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startEngine } from './engine.mjs';

const engine = await startEngine();
after(() => engine.close());
const piece = (loudness) => Float32Array.from({ length: 512 }, (_, at) => loudness * Math.sin(at / 4));

/** What is said of each piece of a stream. */
async function listen(shardKey, pieces) {
  const heard = [];
  for (const loudness of pieces) heard.push(await engine.run('listen', piece(loudness), { shardKey }));
  return heard;
}

test('speech is heard, and fades', async () => {
  const [before, during, after] = await listen('one', [0, 0.6, 0]);
  assert.ok(before < 0.2 && during > 0.8);
  assert.ok(after < during && after > before, 'the state remembers');
});

test('each of many streams at once has a state of its own', async () => {
  const names = Array.from({ length: 20 }, (_, index) => `stream ${index}`);
  const pieces = [0, 0.6, 0.6, 0, 0.3];
  const together = await Promise.all(names.map((name) => listen(name, pieces)));
  const alone = await listen('alone', pieces);
  for (const heard of together) assert.deepEqual(heard, alone);
});

test('a stream that has ended begins anew', async () => {
  await listen('two', [0.9, 0.9]);
  assert.equal(await engine.run('listen', null, { shardKey: 'two', method: 'end' }), true);
  assert.deepEqual(await listen('two', [0]), await listen('three', [0]));
});
