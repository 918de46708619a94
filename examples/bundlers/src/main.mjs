import { createEngine } from 'infermux';
import { one } from './picture.mjs';

const engine = await createEngine({ models: 'node_modules/infermux/native-models', replicas: 1 });
const { probabilities } = await engine.run('digits-cnn', { image: { dims: [1, 64], data: one } });
console.log(`looks like a ${probabilities.data.indexOf(Math.max(...probabilities.data))}`);
await engine.close();
