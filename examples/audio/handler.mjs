// Runs in the replica. Each stream of audio has a state, which the model changes with each piece.
const FRAME = 512; // 32 ms at 16 kHz
const STATE = { dims: [2, 1, 128], type: 'float32' };
const MOST_STREAMS = 1_000;

/** States by stream, the one that was used last at the end. */
const states = new Map();

/** Takes a piece of a stream, 512 samples from -1 to 1, and says how likely it is that somebody speaks. */
export async function handle(samples, { shardKey, run }) {
  if (samples.length !== FRAME) throw new Error(`a piece has ${FRAME} samples, got ${samples.length}`);
  const state = states.get(shardKey) ?? { ...STATE, data: new Float32Array(2 * 128) };
  const { output, stateN } = await run('detector', { input: { dims: [1, FRAME], data: samples }, state });
  states.delete(shardKey);
  states.set(shardKey, stateN);
  if (states.size > MOST_STREAMS) states.delete(states.keys().next().value);
  return output.data[0];
}

/** The stream is over. */
export function end(_, { shardKey }) {
  return states.delete(shardKey);
}
