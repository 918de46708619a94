// A handler that calls onnxruntime-node directly for a while, as soon as it is imported.
import * as ort from 'onnxruntime-node';

const model = process.env.EAGER_MODEL;
const session = await ort.InferenceSession.create(model);
for (let run = 0; run < 200; run += 1) {
  await session.run({ x: new ort.Tensor('float32', Float32Array.of(3), [1]) });
}

export const handle = () => 'there';
