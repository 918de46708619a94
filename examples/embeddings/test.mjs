import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { likeness, startEngine } from './engine.mjs';

const engine = await startEngine();
after(() => engine.close());

test('a text has a vector of length 1, the same in any company', async () => {
  const alone = await engine.run('embed', 'the cat');
  assert.equal(alone.length, 32);
  assert.ok(Math.abs(likeness(alone, alone) - 1) < 1e-5);
  const texts = ['the cat', 'a much longer text of which the model knows no word', 'dog', ''];
  const [together] = await Promise.all(texts.map((text) => engine.run('embed', text)));
  assert.ok(Math.abs(likeness(alone, together) - 1) < 1e-5);
});

test('texts that share words are more alike', async () => {
  const [cat, other, server] = await Promise.all(
    ['the cat sat on the mat', 'the cat ran on the mat', 'red server thread'].map((text) => engine.run('embed', text)),
  );
  assert.ok(likeness(cat, other) > likeness(cat, server));
});

test('many texts at once share calls', async () => {
  const results = await Promise.all(
    Array.from({ length: 64 }, (_, index) => engine.infer({ target: 'embed', feeds: `the cat ${index}` })),
  );
  assert.ok(Math.max(...results.map(({ batchSize }) => batchSize)) > 1);
});
