import * as ort from 'onnxruntime-node';

/** Opens a session as the guides of onnxruntime-node do, with one thread: the pools provide the parallelism. */
export async function openSession({ path, input, output, dims }) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  return async (data, rows = dims) => {
    const results = await session.run({ [input]: new ort.Tensor('float32', data, rows) });
    return results[output].data;
  };
}
