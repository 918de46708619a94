// A handler that runs digits-mlp, at once or after a while, and one whose answer is a stream.
let yielded = 0;

export async function handle({ image, waitMs, items }, context) {
  if (items !== undefined) return items === 0 ? yielded : numbers(items);
  if (waitMs !== undefined) await new Promise((resolve) => setTimeout(resolve, waitMs));
  const { probabilities } = await context.run('digits-mlp', { image: { dims: [1, 64], data: image } });
  return probabilities.data;
}

async function* numbers(count) {
  yielded = 0;
  for (let index = 0; index < count; index += 1) {
    yielded += 1;
    yield { index };
  }
}
