import * as ort from 'onnxruntime-node';

/**
 * Opens a session as the guides of onnxruntime-node do. It has one thread if `threads` does not say otherwise, because
 * the pools provide the parallelism; with 0 it has onnxruntime's default, as many as there are physical cores.
 */
export async function openSession({ path, input, output, dims, threads = 1 }) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: threads, interOpNumThreads: 1 });
  return async (data, rows = dims) => {
    const results = await session.run({ [input]: new ort.Tensor('float32', data, rows) });
    return results[output].data;
  };
}
