import * as ort from 'onnxruntime-node';

/** As the guides of onnxruntime-node have it; one thread for each session, since the pools bring the parallelism. */
export async function openSession({ path, input, output, dims }) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  return async (data, rows = dims) => {
    const results = await session.run({ [input]: new ort.Tensor('float32', data, rows) });
    return results[output].data;
  };
}
