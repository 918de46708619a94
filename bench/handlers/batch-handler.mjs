// A handler that runs digits-mlp once for all its requests.
export async function handleBatch(requests, context) {
  const data = new Float32Array(64 * requests.length);
  for (const [index, { image }] of requests.entries()) data.set(image, 64 * index);
  const { probabilities } = await context.run('digits-mlp', { image: { dims: [requests.length, 64], data } });
  return requests.map((_, index) => probabilities.data.slice(10 * index, 10 * (index + 1)));
}
