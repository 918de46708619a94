import { createEngine } from 'infermux';
import { readDigit } from './digits.mjs';

const one = new Float32Array(64);
for (let y = 1; y < 7; y += 1) one[8 * y + 4] = 16;

describe('with a real engine', () => {
  let engine;
  beforeAll(async () => {
    engine = await createEngine({ models: 'node_modules/infermux/native-models', replicas: 1 });
  });
  afterAll(() => engine.close());

  it('reads a digit', async () => {
    expect(await readDigit(engine, one)).toBe(1);
  });

  it('says what is wrong', async () => {
    await expect(readDigit(engine, new Float32Array(3))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

it('needs no engine where the model does not matter', async () => {
  const fake = { run: async () => ({ probabilities: { data: Float32Array.of(0, 0, 1) } }) };
  expect(await readDigit(fake, one)).toBe(2);
});
