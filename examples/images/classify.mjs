// node classify.mjs picture.jpg …; without a picture it draws one.

import { createEngine } from 'infermux';
import sharp from 'sharp';
import { best, readPicture } from './pictures.mjs';

const drawn = () =>
  sharp({ create: { width: 640, height: 480, channels: 3, background: '#3478c0' } })
    .jpeg()
    .toBuffer();
const files = process.argv.length > 2 ? process.argv.slice(2) : [await drawn()];

const engine = await createEngine({ models: 'models' });
const answers = files.map(async (file) => {
  const { scores } = await engine.run('classifier', { data: await readPicture(engine, file) });
  return best(scores.data);
});
console.log(JSON.stringify(await Promise.all(answers), null, 2));
await engine.close();
