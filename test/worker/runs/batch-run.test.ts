import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import { splitOutputs, toPacked } from '../../../dist/protocol/call-answers.js';
import { packGroups } from '../../../dist/protocol/request-groups.js';
import type { Outputs, Tensor, TensorFeeds } from '../../../dist/tensors/tensor.js';
import { type Batch, runBatch, runSingly, uniformFeeds } from '../../../dist/worker/runs/batch-run.js';

const row = (...values: number[]): TensorFeeds => ({
  x: { type: 'float32', dims: [1, values.length], data: Float32Array.from(values) },
});

const batchOf = (...feeds: TensorFeeds[]): Batch =>
  packGroups([{ feeds, joined: true, outputs: undefined, checked: true, hasApart: false }]).groups[0] as Batch;

/** A model by what it does with the rows of x. */
const model = (run: (rows: number[][]) => number[][]) => ({
  calls: 0,
  async run({ x }: TensorFeeds): Promise<Outputs> {
    this.calls += 1;
    const { dims, data } = x as Tensor & { data: Float32Array };
    const width = dims[1] ?? 0;
    const rows = Array.from({ length: dims[0] ?? 0 }, (_, index) => [
      ...data.subarray(index * width, (index + 1) * width),
    ]);
    const result = run(rows);
    return {
      y: { type: 'float32', dims: [result.length, result[0]?.length ?? 0], data: Float32Array.from(result.flat()) },
    };
  },
});

const doubling = () => model((rows) => rows.map((values) => values.map((value) => 2 * value)));
const now = () => 0;
const failed = (message: string) => new InfermuxError('INFERENCE_FAILED', message);

describe('a batch', () => {
  it('is one call, whose result splits into what each request gives alone', async () => {
    const runner = doubling();
    const { calls, mismatch } = await runBatch(runner, batchOf(row(1, 2), row(3, 4), row(5, 6)), false, now);
    expect({ runs: runner.calls, calls: calls.length, mismatch }).toEqual({ runs: 1, calls: 1, mismatch: undefined });
    const [first, , third] = splitOutputs(toPacked(calls[0]?.outputs ?? {}), 3, 1);
    expect([first?.['y']?.data, third?.['y']?.data]).toEqual([Float32Array.of(2, 4), Float32Array.of(10, 12)]);
  });

  it('of a model that keeps rows apart is found equal to single runs', async () => {
    const runner = doubling();
    const { calls, mismatch } = await runBatch(runner, batchOf(row(1), row(2)), true, now);
    expect({ runs: runner.calls, calls: calls.length, mismatch }).toEqual({ runs: 3, calls: 1, mismatch: null });
  });

  it('of a model that mixes rows is answered by single runs, with what differs', async () => {
    const mixing = model((rows) =>
      rows.map(([value = 0]) => [value - rows.reduce((sum, [other = 0]) => sum + other, 0)]),
    );
    const { calls, mismatch } = await runBatch(mixing, batchOf(row(1), row(2)), true, now);
    expect(calls.map(({ outputs }) => outputs?.['y']?.data[0])).toEqual([0, 0]);
    expect(mismatch).toBe('output "y" is -2 instead of 0 at element 0');
  });

  it('whose outputs cannot be told apart is answered by single runs, even unasked', async () => {
    const summing = model((rows) => [[rows.flat().reduce((sum, value) => sum + value, 0)]]);
    const { calls, mismatch } = await runBatch(summing, batchOf(row(1), row(2)), false, now);
    expect(calls.map(({ outputs }) => outputs?.['y']?.data[0])).toEqual([1, 2]);
    expect(mismatch).toBe('output "y" has dims [1,1] for 2 rows');
  });

  it('that fails runs one by one, so that only the bad request fails', async () => {
    const picky = model((rows) => {
      if (rows.some(([value = 0]) => value < 0)) throw failed('negative');
      return rows;
    });
    const { calls, mismatch } = await runBatch(picky, batchOf(row(1), row(-1), row(3)), true, now);
    expect(calls.map(({ error, outputs }) => error?.message ?? outputs?.['y']?.data[0])).toEqual([1, 'negative', 3]);
    expect(mismatch).toBeUndefined();
  });

  it('that fails though no request does alone is not to be formed again', async () => {
    const single = model((rows) => {
      if (rows.length > 1) throw failed('one row only');
      return rows;
    });
    const { calls, mismatch } = await runBatch(single, batchOf(row(1), row(2)), false, now);
    expect(calls.map(({ outputs }) => outputs?.['y']?.data[0])).toEqual([1, 2]);
    expect(mismatch).toContain('it fails, though no request does alone: one row only');
  });

  it('says nothing about the model when the thread is told to stop', async () => {
    let stops = false;
    const stopping = model((rows) => {
      if (stops) throw new InfermuxError('REPLICA_FAILED', 'the replica is stopping');
      stops = true;
      return rows;
    });
    const { calls, mismatch } = await runBatch(stopping, batchOf(row(1), row(2)), true, now);
    expect(calls.map(({ error }) => error?.code)).toEqual(['REPLICA_FAILED', 'REPLICA_FAILED']);
    expect(mismatch).toBeUndefined();
  });
});

it('the time of each single call is its own', async () => {
  let time = 0;
  const slow = model((rows) => {
    time += rows[0]?.[0] ?? 0;
    return rows;
  });
  const calls = await runSingly(
    slow,
    {
      ...batchOf(row(5), row(7)),
      rows: undefined,
      inputs: batchOf(row(5), row(7)).inputs.map((input) => ({ ...input, dims: [1, 1] })),
    },
    () => time,
  );
  expect(calls.map(({ runMs }) => runMs).reduce((sum, ms) => sum + ms, 0)).toBe(12);
});

it('a batch of the same request over and over is uniform', () => {
  expect(uniformFeeds(batchOf(row(1), row(1)))).toEqual(row(1));
  expect(uniformFeeds(batchOf(row(1), row(2)))).toBeUndefined();
});
