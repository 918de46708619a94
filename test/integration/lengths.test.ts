import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { identityModel, modelDirectory, scaleModel } from '../support/onnx-models.js';

/** How a call of the child ended. */
interface Ended {
  readonly group: 'long' | 'changing' | 'handled' | 'alive';
  readonly name: string;
  readonly code: string | number;
  readonly message: string;
  readonly ms: number;
  readonly texts: readonly string[];
}

const child = fileURLToPath(new URL('../support/lengths-child.mjs', import.meta.url));
const models = modelDirectory({ 'times-2': scaleModel(2), words: identityModel(['string']) });
// A list that is walked to its end would end the process, so it is another one.
const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, models], {
  encoding: 'utf8',
  timeout: 100_000,
  killSignal: 'SIGKILL',
});
const ended = stdout
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as Ended);
const of = (group: Ended['group']) => ended.filter((each) => each.group === group);

describe('what is too long', () => {
  it('ends no process, and the engine goes on', () => {
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    expect(of('alive')).toEqual([{ group: 'alive', name: 'the engine', code: 6 }]);
  });

  it('is refused in every place, quickly', () => {
    expect(of('long').length).toBeGreaterThan(100);
    expect(of('long').filter(({ code }) => code !== 'INVALID_ARGUMENT')).toEqual([]);
    // Most take a fraction of a millisecond; some make lists of millions of items, or strings of as many characters.
    const times = of('long')
      .map(({ ms }) => ms)
      .sort((left, right) => left - right);
    expect(times[times.length >> 1]).toBeLessThan(50);
    expect(times.at(-1)).toBeLessThan(10_000);
  });

  it('is named in a short message with what was expected and what came', () => {
    const dims = of('long').find(({ name }) => name === 'dims of run: sparse');
    expect(dims?.message).toBe('input "x": dims must have at most 64 dimensions, got length 4294967295');
    const outputs = of('long').find(({ name }) => name === 'outputs of infer: of 2 million');
    expect(outputs?.message).toBe('the request.outputs must have at most 1024 items, got a list of length 2100000');
    expect(of('long').filter(({ texts }) => texts.some(({ length }) => length > 8_192))).toEqual([]);
  });
});

it('a list that changes is read once', () => {
  expect(of('changing').length).toBeGreaterThan(20);
  expect(of('changing').filter(({ code }) => code !== 'answered')).toEqual([]);
});

describe('the error of a handler', () => {
  it('comes with texts of bounded length, whatever it is', () => {
    expect(of('handled').map(({ code }) => code)).toEqual(Array(3).fill('INFERENCE_FAILED'));
    expect(of('handled').filter(({ texts }) => texts.length !== 3)).toEqual([]);
    expect(of('handled').filter(({ texts }) => texts.some(({ length }) => length > 16_384))).toEqual([]);
  });

  it('cannot steer a terminal', () => {
    const { message, texts } = of('handled').at(-1) as Ended;
    expect(message).toBe('the handler failed: red \\u001b[31m and \\u202eback next line');
    for (const text of texts) expect(text).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u);
  });
});
