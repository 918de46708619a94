import { likeness, startEngine } from './engine.mjs';

const engine = await startEngine();
const texts = ['The cat sat on the mat', 'A cat sat under a tree', 'The server is not a thread'];
const vectors = await Promise.all(texts.map((text) => engine.run('embed', text)));
for (const [index, text] of texts.entries()) console.log(likeness(vectors[0], vectors[index]).toFixed(3), text);
await engine.close();
