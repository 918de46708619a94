import { beforeEach, describe, expect, it } from 'vitest';
import type { RequestGroup } from '../../../dist/protocol/messages.js';
import { packGroups } from '../../../dist/protocol/request-groups.js';
import type { Outputs, Tensor, TensorFeeds } from '../../../dist/tensors/tensor.js';
import { Executor } from '../../../dist/worker/runs/executor.js';
import { createEviction } from '../../../dist/worker/sessions/eviction-policies.js';
import { ModelMultiplexer } from '../../../dist/worker/sessions/model-multiplexer.js';
import type { Session } from '../../../dist/worker/sessions/session.js';

type Rows = readonly (readonly number[])[];

const floats = (rows: Rows): Tensor => ({
  type: 'float32',
  dims: [rows.length, rows[0]?.length ?? 0],
  data: Float32Array.from(rows.flat()),
});

const request = (...values: number[]): TensorFeeds => ({ x: floats([values]) });

const group = (feeds: readonly TensorFeeds[], outputs?: readonly string[]): RequestGroup =>
  packGroups([{ feeds, joined: feeds.length > 1, outputs, checked: true, hasApart: false }]).groups[0] as RequestGroup;

let runs: number;

/** A session by what it makes of the rows of x; outputs by name. */
function sessionOf(model: (rows: Rows) => Readonly<Record<string, Rows>>): Session {
  return {
    metadata: { inputs: [{ name: 'x', type: 'float32', shape: ['N', 'W'] }], outputs: [], omittedOutputs: [] },
    release: async () => undefined,
    run: async ({ x }, names): Promise<Outputs> => {
      runs += 1;
      const { dims, data } = x as Tensor & { data: Float32Array };
      const width = dims[1] ?? 0;
      const rows = Array.from({ length: dims[0] ?? 0 }, (_, at) => [...data.subarray(at * width, (at + 1) * width)]);
      const all = Object.entries(model(rows)).map(([name, result]) => [name, floats(result)] as const);
      return Object.fromEntries(all.filter(([name]) => names?.includes(name) ?? true));
    },
  };
}

function executorOf(session: Session): Executor {
  const ignore = () => undefined;
  const events = {
    loading: ignore,
    loaded: ignore,
    changedOver: ignore,
    loadFailed: ignore,
    unloaded: ignore,
    releaseFailed: ignore,
    resident: ignore,
  };
  const loader = {
    load: async () => session,
    loadShared: async () => undefined,
    mayLoadBeside: () => false,
    check: async () => undefined,
  };
  return new Executor(
    new ModelMultiplexer(
      { maxModels: 1, maxBytes: -1, eviction: createEviction('lru', () => 0), idleTimeoutMs: -1 },
      loader,
      events,
      () => 0,
    ),
    () => 0,
  );
}

const execute = (executor: Executor, groups: readonly RequestGroup[], verify = true) =>
  executor.run({ model: { key: 'm@1', id: 'm', bytes: 1, path: '/m' }, groups, spare: undefined, verify });

const firstNumbers = (calls: readonly { outputs: Outputs | undefined }[], name = 'y') =>
  calls.map(({ outputs }) => [...((outputs as Outputs)[name] as Tensor & { data: Float32Array }).data]);

const summing = () =>
  sessionOf((rows) => {
    const sum = rows.flat().reduce((total, value) => total + value, 0);
    return { y: rows.map(() => [sum]) };
  });

beforeEach(() => {
  runs = 0;
});

describe('a batch that is to be proven', () => {
  it('is run once more one by one, and then the model is proven', async () => {
    const doubling = sessionOf((rows) => ({ y: rows.map((row) => row.map((value) => 2 * value)) }));
    const { calls, verification } = await execute(executorOf(doubling), [group([request(1), request(2)])]);
    expect({ runs, verification }).toEqual({ runs: 3, verification: { mismatch: undefined } });
    expect(firstNumbers(calls[0] ?? [])).toEqual([[2, 4]]);
  });

  it('that is found out keeps the other batches of its message from running as one', async () => {
    const { calls, verification } = await execute(executorOf(summing()), [
      group([request(1), request(2)]),
      group([request(3, 4), request(5, 6)]),
    ]);
    expect(verification?.mismatch).toContain('output "y"');
    expect(calls.map((all) => firstNumbers(all))).toEqual([
      [[1], [2]],
      [[7], [11]],
    ]);
  });

  it('is compared in all outputs, whatever is wanted of them', async () => {
    const mixed = sessionOf((rows) => ({
      own: rows.map((row) => [...row]),
      mixed: rows.map(() => [rows.length]),
    }));
    const { calls, verification } = await execute(executorOf(mixed), [group([request(1), request(2)], ['own'])]);
    expect(verification?.mismatch).toContain('output "mixed"');
    expect(calls[0]?.map(({ outputs }) => Object.keys(outputs ?? {}))).toEqual([['own'], ['own']]);
  });

  it('of one request over and over proves nothing for others, nor for another one over and over', async () => {
    const executor = executorOf(summing());
    const zeros = await execute(executor, [group([request(0), request(0)])]);
    expect(zeros.verification).toBeUndefined();
    const ones = await execute(executor, [group([request(1), request(1)])]);
    expect(ones.verification?.mismatch).toContain('output "y" is 2 instead of 1');
    expect(firstNumbers(ones.calls[0] ?? [])).toEqual([[1], [1]]);
  });

  it('of the same request as before is not compared again', async () => {
    const executor = executorOf(sessionOf((rows) => ({ y: rows })));
    await execute(executor, [group([request(7), request(7)])]);
    runs = 0;
    await execute(executor, [group([request(7), request(7), request(7)])]);
    expect(runs).toBe(1);
  });
});

it('requests that do not fit the model are refused without a run', async () => {
  const executor = executorOf(sessionOf((rows) => ({ y: rows })));
  const wrong = { ...group([{ z: floats([[1]]) }]), checked: false };
  const { calls } = await execute(executor, [wrong, group([request(1)])]);
  expect(calls[0]?.map(({ error, runMs }) => [error?.code, runMs])).toEqual([['INVALID_ARGUMENT', 0]]);
  expect(firstNumbers(calls[1] ?? [])).toEqual([[1]]);
  expect(runs).toBe(1);
});
