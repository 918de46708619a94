import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../dist/common/clock.js';
import { startEngine } from '../../dist/engine/create-engine.js';
import {
  createEngine,
  type EngineOptions,
  type Feeds,
  type InferenceEngine,
  type InfermuxError,
  type Outputs,
  type TensorType,
} from '../../dist/index.js';
import { arrayTypeOf } from '../../dist/tensors/tensor.js';
import { sampleOf } from '../support/engines/small-engine.js';
import { areThreads } from '../support/isolation.js';
import { identityModel, modelDirectory, scaleModel } from '../support/onnx-models.js';
import { until } from '../support/until.js';

type NumericType = Exclude<TensorType, 'string'>;

const TYPES: readonly NumericType[] = ['float32', 'float64', 'float16', 'int8', 'uint8', 'int32', 'int64', 'bool'];
const WAYS = ['plain', 'transfer', 'allocate'] as const;
type Way = (typeof WAYS)[number];

const worker = new URL('../support/crashing-worker.mjs', import.meta.url);
process.env['CRASH_MARKERS'] = mkdtempSync(join(tmpdir(), 'infermux-large-'));

const scales = [2, 3, 4];
const directory = modelDirectory({
  ...Object.fromEntries(scales.map((factor) => [`times-${factor}`, scaleModel(factor)])),
  ...Object.fromEntries(TYPES.map((type) => [`same-${type}`, identityModel([type])])),
});

let engine: InferenceEngine;

function start(options: EngineOptions = {}): Promise<InferenceEngine> {
  const environment = { clock: systemClock, worker };
  return startEngine({ models: directory, replicas: 2, ...options }, environment);
}

/** Fills an array with numbers that any type holds and that tell its elements apart. */
function fill(data: { length: number; [index: number]: unknown }, seed: number): void {
  const isBig = typeof data[0] === 'bigint';
  for (let index = 0; index < data.length; index += 1) {
    const value = ((index * 7 + seed) % 97) & 1 ? 1 : 0;
    data[index] = isBig ? BigInt(value) : value;
  }
}

/** Feeds of one input in one of the three ways, and a function that changes what the caller still has of them. */
function feedsIn(way: Way, type: NumericType, name: string, dims: readonly number[], write: (data: never) => void) {
  if (way === 'allocate') {
    const tensor = engine.allocate(type, dims);
    write(tensor.data as never);
    return { feeds: { [name]: tensor } as Feeds, spoil: () => undefined, transfer: false };
  }
  const length = dims.reduce((product, size) => product * size, 1);
  const data = new (arrayTypeOf(type))(length) as Float32Array;
  write(data as never);
  return {
    feeds: { [name]: { type, dims, data } } as Feeds,
    spoil: () => (way === 'plain' ? void new Uint8Array(data.buffer).fill(0) : expect(data.length).toBe(0)),
    transfer: way === 'transfer',
  };
}

/** The elements of the only output. */
const dataOf = (outputs: Outputs) => Object.values(outputs)[0]?.data as Float32Array;

const usedBytes = () => sampleOf(engine, 'infermux_tensor_memory_bytes', { state: 'used' });

describe('large tensors', () => {
  beforeAll(async () => {
    engine = await start({ maxModelsPerReplica: 4, batching: { maxSize: 8 } });
  });
  afterAll(() => engine.close());

  it('give right answers in every way, type and size, whatever the caller changes, cancels or waits for', async () => {
    const request = fc.record({
      way: fc.constantFrom(...WAYS),
      type: fc.constantFrom(...TYPES),
      // Two elements a row: some are below the size from which tensors are large, some are far above.
      rows: fc.integer({ min: 1, max: 60_000 }),
      seed: fc.nat({ max: 96 }),
      ends: fc.constantFrom('answered', 'answered', 'answered', 'aborted', 'late'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 12 }), async (requests) => {
        const calls = requests.map(async ({ way, type, rows, seed, ends }) => {
          const { feeds, spoil, transfer } = feedsIn(way, type, 'in0', [rows, 2], (data) => fill(data, seed));
          const controller = new AbortController();
          const limits = ends === 'late' ? { timeoutMs: 1 } : {};
          const call = engine.run(`same-${type}`, feeds, { transfer, signal: controller.signal, ...limits });
          // One that is late at once is refused, and leaves its arrays to the caller.
          if (ends !== 'late' || !transfer) spoil();
          if (ends === 'aborted') void nextTurn().then(() => controller.abort());
          const answer = await call.catch(({ code }: InfermuxError) => code);
          if (typeof answer === 'string') {
            expect({ answer, ends }).toEqual({ answer: ends === 'late' ? 'DEADLINE_EXCEEDED' : 'CANCELLED', ends });
            return;
          }
          const { data, dims } = answer['out0'] as { data: Float32Array; dims: readonly number[] };
          const expected = new (arrayTypeOf(type))(2 * rows) as Float32Array;
          fill(expected as never, seed);
          expect(dims).toEqual([rows, 2]);
          expect(Buffer.from(data.buffer, data.byteOffset, data.byteLength).equals(Buffer.from(expected.buffer))).toBe(
            true,
          );
          expect(data.buffer).toBeInstanceOf(ArrayBuffer);
        });
        await Promise.all(calls);
      }),
      { numRuns: 60 },
    );
    await until(async () => (await usedBytes()) === 0);
  });

  it('that have the same shape are joined when that is faster, and keep apart in the answers', async () => {
    const rows = 10_000;
    for (let round = 0; round < 30; round += 1) {
      const answers = await Promise.all(
        Array.from({ length: 8 }, (_, caller) => {
          const way = WAYS[caller % 3] as Way;
          const { feeds, spoil, transfer } = feedsIn(way, 'float32', 'x', [rows, 4], (data: Float32Array) =>
            data.fill(round * 8 + caller),
          );
          const answer = engine.run('times-2', feeds, { transfer });
          spoil();
          return answer;
        }),
      );
      for (const [caller, answer] of answers.entries()) {
        const data = dataOf(answer);
        expect(data.length).toBe(4 * rows);
        expect(data.every((value) => value === 2 * (round * 8 + caller))).toBe(true);
      }
      expect(new Set(answers.map((answer) => dataOf(answer).buffer)).size).toBe(8);
    }
    await until(async () => (await usedBytes()) === 0);
  });
});

describe('a replica that dies with large tensors', () => {
  afterEach(() => engine?.close());

  it.runIf(areThreads)(
    'costs no answer of those that the engine still has, and those that were given away can be sent again',
    async () => {
      engine = await start({ batching: false });
      const rows = 20_000;
      let marker = 0;
      const ask = (caller: number, factor: number, isDeadly: boolean) => {
        const way = WAYS[caller % 3] as Way;
        const { feeds, spoil, transfer } = feedsIn(way, 'float32', 'x', [rows, 4], (data: Float32Array) => {
          data.fill(caller + 1);
          if (!isDeadly) return;
          marker += 1;
          // The thread dies once.
          data[0] = -1;
          data[1] = marker;
        });
        const answer = engine.run(`times-${factor}`, feeds, { transfer });
        spoil();
        return answer.then(
          (outputs) => dataOf(outputs)[4],
          ({ code, retryable }: InfermuxError) => `${way}: ${code}, retryable: ${retryable}`,
        );
      };
      for (let round = 0; round < 6; round += 1) {
        const factor = scales[round % 3] as number;
        const answers = await Promise.all(
          Array.from({ length: 9 }, (_, caller) => ask(caller, factor, caller === round)),
        );
        for (const [caller, answer] of answers.entries()) {
          const lost = 'transfer: REPLICA_FAILED, retryable: true';
          if (answer !== lost) expect(answer).toBe((caller + 1) * factor);
          else expect(WAYS[caller % 3]).toBe('transfer');
        }
        const isTransferDeadly = WAYS[round % 3] === 'transfer';
        if (isTransferDeadly) expect(answers[round]).toMatch(/REPLICA_FAILED/);
        else expect(answers[round]).toBe((round + 1) * factor);
        await until(() => engine.status().replicas.every(({ state }) => state === 'running'));
      }
      await until(async () => (await usedBytes()) === 0);
    },
  );
});

describe('engine.allocate', () => {
  beforeAll(async () => {
    engine = await createEngine({ models: directory, replicas: 1 });
  });
  afterAll(() => engine.close());

  const message = (call: () => unknown) => {
    try {
      return call();
    } catch (error) {
      return `${(error as InfermuxError).code}: ${(error as Error).message}`;
    }
  };

  it('returns a tensor of the type and shape, small or large', () => {
    const large = engine.allocate('float32', [1, 3, 224, 224]);
    expect([large.type, large.dims, large.data.length]).toEqual(['float32', [1, 3, 224, 224], 150_528]);
    expect(engine.allocate('int64', [2]).data).toBeInstanceOf(BigInt64Array);
    expect(engine.allocate('bool', []).data.length).toBe(1);
    expect(engine.allocate('float16', [0, 4]).data.length).toBe(0);
  });

  it.each([
    [['string', [2]], /^INVALID_ARGUMENT: type must be .* got 'string'|"string"/],
    [['float33', [2]], /^INVALID_ARGUMENT: type must be/],
    [['float32', [-1]], /^INVALID_ARGUMENT: dims must be/],
    [['float32', 4], /^INVALID_ARGUMENT: dims must be/],
    [['float32', [2 ** 30, 2 ** 30]], /^INVALID_ARGUMENT: dims .* more than there is memory for/],
  ])('refuses %j', (args, expected) => {
    expect(message(() => engine.allocate(...(args as ['float32', number[]])))).toMatch(expected);
  });

  it('gives a tensor that can be fed once', async () => {
    await engine.models.load('times-2');
    const tensor = engine.allocate('float32', [30_000, 4]);
    tensor.data.fill(1);
    // A request that is not accepted leaves the tensor to the caller.
    await expect(engine.run('times-2', { wrong: tensor })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(engine.run('times-2', { x: tensor }, { timeoutMs: 0 })).rejects.toMatchObject({
      code: 'DEADLINE_EXCEEDED',
    });
    const first = engine.run('times-2', { x: tensor });
    await expect(engine.run('times-2', { x: tensor })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('can be done once'),
    });
    expect(dataOf(await first).every((value) => value === 2)).toBe(true);
    const again = engine.allocate('float32', [30_000, 4]);
    await expect(
      engine.run('times-2', { x: { ...tensor, data: tensor.data.subarray(4), dims: [29_999, 4] } }),
    ).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    again.data.fill(3);
    expect(dataOf(await engine.run('times-2', { x: again })).at(-1)).toBe(6);
  });

  it('gives a tensor of which parts can be fed as ordinary arrays', async () => {
    const tensor = engine.allocate('float32', [40_000, 4]);
    tensor.data.fill(1).subarray(0, 80_000).fill(5);
    const half = { dims: [20_000, 4], data: tensor.data.subarray(0, 80_000) };
    const answer = engine.run('times-2', { x: half });
    tensor.data.fill(0);
    expect(dataOf(await answer).every((value) => value === 10)).toBe(true);
    expect(dataOf(await engine.run('times-2', { x: tensor }))[0]).toBe(0);
  });

  it('gives tensors that a shadow copies, and the request itself takes over', async () => {
    await engine.endpoints.set('shadowed', { traffic: { 'times-2': 1 }, shadow: { 'times-3': 1 } });
    for (let round = 1; round <= 5; round += 1) {
      const tensor = engine.allocate('float32', [30_000, 4]);
      tensor.data.fill(round);
      const answer = await engine.run('shadowed', { x: tensor });
      expect(dataOf(answer).every((value) => value === 2 * round)).toBe(true);
    }
    await until(async () => (await usedBytes()) === 0);
  });
});
