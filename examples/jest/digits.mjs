/** What the application does with an engine, or with whatever has a `run` like it. */
export async function readDigit(engine, pixels) {
  const { probabilities } = await engine.run('digits-cnn', { image: { dims: [1, 64], data: pixels } });
  return probabilities.data.indexOf(Math.max(...probabilities.data));
}
