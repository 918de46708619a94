// Deploys a model into the directory again and again, under new names, until it is killed. Argument: the directory.
import { createEngine } from '../../dist/index.js';

const engine = await createEngine({ models: process.argv[2], replicas: 1 });
process.stdout.write('ready\n');
const bytes = new Uint8Array(2_000_000).fill(1);
for (let count = 0; ; count += 1) {
  const id = `model-${process.pid}-${count}`;
  await engine.models.deploy(id, { 'model.onnx': bytes, 'model.json': '{ "licence": "MIT" }', 'data.bin': bytes });
}
