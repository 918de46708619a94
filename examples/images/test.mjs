import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { createEngine } from 'infermux';
import sharp from 'sharp';
import { readPicture } from './pictures.mjs';

const engine = await createEngine({ models: 'models', replicas: 1 });
after(() => engine.close());
const picture = (colour) =>
  sharp({ create: { width: 300, height: 200, channels: 3, background: colour } })
    .png()
    .toBuffer();

test('a picture becomes a tensor, by channel, as ImageNet has it', async () => {
  const { dims, data } = await readPicture(engine, await picture({ r: 255, g: 0, b: 0 }));
  assert.deepEqual(dims, [1, 3, 224, 224]);
  assert.ok(Math.abs(data[0] - (1 - 0.485) / 0.229) < 1e-5);
  assert.ok(Math.abs(data[2 * 224 * 224] - -0.406 / 0.225) < 1e-5);
});

test('several pictures at once give what each gives alone', async () => {
  const classify = async (colour) =>
    (await engine.run('classifier', { data: await readPicture(engine, await picture(colour)) })).scores.data;
  const colours = ['#ff0000', '#00ff00', '#0000ff', '#888888'];
  const together = await Promise.all(colours.map(classify));
  for (const [index, colour] of colours.entries()) {
    const alone = await classify(colour);
    assert.ok(alone.every((score, at) => Math.abs(score - together[index][at]) < 1e-4));
  }
});

test('the command prints the best classes', () => {
  const [classes] = JSON.parse(execFileSync(process.execPath, ['classify.mjs'], { encoding: 'utf8' }));
  assert.equal(classes.length, 5);
  assert.ok(classes[0].score >= classes[4].score);
});
