import { describe, expect, it } from 'vitest';
import { type BatchingPolicy, batchingPolicy } from '../../../dist/contracts/batching.js';
import type { Tensor, TensorFeeds } from '../../../dist/tensors/tensor.js';
import { JoinedRuns } from '../../../dist/worker/handlers/joined-runs.js';
import { Executor } from '../../../dist/worker/runs/executor.js';
import type { Session } from '../../../dist/worker/sessions/session.js';
import { FakeSessions, model } from '../../support/fakes/fake-sessions.js';

const AUTO = batchingPolicy('auto', undefined);
const M = model('m');

/** A session that doubles its rows, and keeps a record of how many it is given in each call. */
function sessionOf(shape: readonly (number | string)[] = ['N', 1], spoil = 0) {
  const calls: number[] = [];
  const value = { type: 'float32', shape } as const;
  const session: Session = {
    metadata: { inputs: [{ name: 'x', ...value }], outputs: [{ name: 'y', ...value }], omittedOutputs: [] },
    release: async () => undefined,
    run: async ({ x }: TensorFeeds) => {
      const { dims, data } = x as Tensor & { data: Float32Array };
      calls.push(dims[0] as number);
      if (data.includes(-1)) throw new Error('a bad row');
      const off = data.length > 1 ? spoil : 0;
      return { y: { type: 'float32', dims, data: data.map((element) => 2 * element + off) } };
    },
  };
  return { session, calls };
}

const row = (...values: number[]): TensorFeeds => ({
  x: { type: 'float32', dims: [values.length, 1], data: Float32Array.from(values) },
});

function joined() {
  let now = 0;
  const clock = () => {
    now += 0.01;
    return now;
  };
  const runs = new JoinedRuns(new Executor(new FakeSessions().multiplexer(), clock));
  const ask = async (session: Session, feeds: TensorFeeds, policy: BatchingPolicy = AUTO) => {
    const { y } = await runs.run(M, session, policy, feeds, undefined);
    return [...(y as Tensor & { data: Float32Array }).data];
  };
  return { runs, ask };
}

describe('what requests of a handler run in one turn', () => {
  it('is joined once the times of calls are known, and each has its own rows', async () => {
    const { ask } = joined();
    const { session, calls } = sessionOf();
    for (const round of [0, 1, 2, 3]) {
      const answers = [1, 2, 3, 4].map((value) => ask(session, row(value + round)));
      expect(await Promise.all(answers)).toEqual([1, 2, 3, 4].map((value) => [2 * (value + round)]));
    }
    // Larger calls are tried step by step, and the first joined one is compared with single runs.
    expect(Math.max(...calls)).toBe(4);
    expect(calls.at(-1)).toBe(4);
  });

  it('may have several rows, or none in common', async () => {
    const { ask } = joined();
    const { session } = sessionOf();
    for (let round = 0; round < 4; round += 1) {
      const answers = [row(1), row(2, 3), row(4)].map((feeds) => ask(session, feeds));
      expect(await Promise.all(answers)).toEqual([[2], [4, 6], [8]]);
    }
  });

  it('is not joined beyond maxSize, and not where batching is off or the model cannot be batched', async () => {
    const { runs, ask } = joined();
    const { session, calls } = sessionOf();
    const policy = { ...AUTO, maxSize: 2 };
    for (let round = 0; round < 4; round += 1) await Promise.all([1, 2, 3, 4].map((v) => ask(session, row(v), policy)));
    expect(Math.max(...calls)).toBe(2);
    expect(runs.mayJoin(session, batchingPolicy(false, undefined))).toBe(false);
    expect(runs.mayJoin(sessionOf([1, 1]).session, AUTO)).toBe(false);
    expect(runs.mayJoin(session, AUTO)).toBe(true);
  });

  it('runs singly where a joined call has other results, and from then on', async () => {
    const { runs, ask } = joined();
    const { session, calls } = sessionOf(undefined, 1);
    for (let round = 0; round < 3; round += 1)
      expect(await Promise.all([1, 2].map((value) => ask(session, row(value + round))))).toEqual([
        [2 + 2 * round],
        [4 + 2 * round],
      ]);
    expect(runs.mayJoin(session, AUTO)).toBe(false);
    expect(calls.slice(-2)).toEqual([1, 1]);
  });

  it('fails alone for a bad row', async () => {
    const { ask } = joined();
    const { session } = sessionOf();
    for (let round = 0; round < 4; round += 1) await Promise.all([1, 2, 3].map((value) => ask(session, row(value))));
    const answers = await Promise.allSettled([ask(session, row(1)), ask(session, row(-1)), ask(session, row(3))]);
    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });
});
