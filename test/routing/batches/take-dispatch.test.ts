import { describe, expect, it } from 'vitest';
import type { Batching } from '../../../dist/contracts/batching.js';
import { COMPARED_CALLS } from '../../../dist/routing/batches/large-joins.js';
import { expectedDrainMs, takeDispatch } from '../../../dist/routing/batches/take-dispatch.js';
import type { PendingRequest } from '../../../dist/routing/pending-request.js';
import { ModelQueue } from '../../../dist/routing/queues/model-queue.js';
import type { Tensor, TensorFeeds, ValueMetadata } from '../../../dist/tensors/tensor.js';
import { fakeModel, fakeRequest } from '../../support/fakes/fake-requests.js';

const MODEL = fakeModel('m');

const rows = (count: number, width = 2): TensorFeeds => ({
  x: { type: 'float32', dims: [count, width], data: new Float32Array(count * width) },
});

interface Ask {
  readonly feeds?: TensorFeeds;
  readonly outputs?: readonly string[];
  readonly attempts?: number;
  readonly apartBytes?: number;
}

/** A queue with these requests, for a model whose calls took so long by their size. */
function queueOf(
  asks: readonly Ask[],
  calls: readonly (readonly [size: number, ms: number])[],
  batching: Batching = 'auto',
) {
  const queue = new ModelQueue(MODEL, batching);
  const value: ValueMetadata = { name: 'x', type: 'float32', shape: ['N', 'W'] };
  queue.batching.setMetadata({ inputs: [value], outputs: [value], omittedOutputs: [] });
  for (const [size, ms] of calls) queue.times.calls.add(size, ms);
  for (const [sequence, { feeds = rows(1), outputs, attempts = 0, apartBytes = 0 }] of asks.entries()) {
    const request = { ...fakeRequest(MODEL, feeds), outputs, apartBytes };
    queue.add({ ...request, sequence, acceptedAt: 0, attempts } as unknown as PendingRequest);
  }
  return queue;
}

const QUICK = [
  [1, 0.1],
  [128, 0.2],
] as const;

/** `joined` or `single`, and the sequence numbers, group by group. */
const shapeOf = (queue: ModelQueue, most = 1_000) =>
  takeDispatch(queue, most).groups.map(({ joined, requests }) => [
    joined ? 'joined' : 'single',
    ...requests.map(({ sequence }) => sequence),
  ]);

const asks = (count: number, ask: Ask = {}) => Array.from({ length: count }, () => ask);

describe('requests that can be joined', () => {
  it('make one batch, as many as are asked for, in their order', () => {
    const queue = queueOf(asks(5), QUICK);
    expect(shapeOf(queue, 3)).toEqual([['joined', 0, 1, 2]]);
    expect(shapeOf(queue)).toEqual([['joined', 3, 4]]);
  });

  it('are at most maxSize rows, but for one request that has more by itself', () => {
    const queue = queueOf([...asks(3, { feeds: rows(3) }), { feeds: rows(50) }], QUICK, { maxSize: 6 });
    expect(shapeOf(queue)).toEqual([['joined', 0, 1]]);
    expect(shapeOf(queue)).toEqual([['joined', 2]]);
    expect(shapeOf(queue)).toEqual([['joined', 3]]);
  });

  it('go alone as long as it is not known what a call takes', () => {
    expect(shapeOf(queueOf(asks(5), []))).toEqual([['joined', 0]]);
  });

  it('grow to twice what was tried at a time', () => {
    expect(shapeOf(queueOf(asks(9), [[1, 0.1]]))).toEqual([['joined', 0, 1]]);
    expect(shapeOf(queueOf(asks(9), [[2, 0.1]]))).toEqual([['joined', 0, 1, 2, 3]]);
  });

  it('stop at 5 ms, or 1.9 times as long as the first alone, or at targetLatencyMs', () => {
    const perRow = [
      [1, 1],
      [64, 64],
    ] as const;
    expect(shapeOf(queueOf(asks(20), perRow))[0]).toHaveLength(1 + 5);
    const flat = [
      [1, 10],
      [64, 22.61],
    ] as const;
    expect(shapeOf(queueOf(asks(100), flat))[0]).toHaveLength(1 + 45);
    expect(shapeOf(queueOf(asks(20, { feeds: rows(16) }), flat, { maxSize: 200 }))[0]).toHaveLength(1 + 4);
    expect(shapeOf(queueOf(asks(20), perRow, { targetLatencyMs: 8.5 }))[0]).toHaveLength(1 + 8);
  });

  it('are grouped by shape and by the outputs wanted, in one message', () => {
    const wide = { feeds: rows(1, 3) };
    const queue = queueOf([{}, wide, {}, wide, { outputs: ['y'] }], QUICK);
    expect(shapeOf(queue)).toEqual([
      ['joined', 0, 2],
      ['joined', 1, 3],
      ['joined', 4],
    ]);
  });

  it('do not take in one without rows, or with inputs of different rows', () => {
    const uneven: TensorFeeds = { ...rows(1), z: { type: 'float32', dims: [2], data: new Float32Array(2) } };
    const queue = queueOf([{}, { feeds: rows(0) }, {}, { feeds: uneven }], QUICK);
    expect(shapeOf(queue)).toEqual([
      ['joined', 0, 2],
      ['single', 1],
      ['single', 3],
    ]);
  });

  it('leave alone one that lost its replica, which may have been its fault', () => {
    const queue = queueOf([{}, { attempts: 1 }, {}, {}], QUICK);
    expect([shapeOf(queue), shapeOf(queue), shapeOf(queue)]).toEqual([
      [['joined', 0]],
      [['joined', 1]],
      [['joined', 2, 3]],
    ]);
  });

  it('of several shapes are bounded in time together', () => {
    const perRow = [
      [1, 1],
      [64, 64],
    ] as const;
    const shapes = Array.from({ length: 20 }, (_, index) => ({ feeds: rows(1, 1 + (index % 4)) }));
    expect(takeDispatch(queueOf(shapes, perRow), 100).requests).toBe(5);
  });

  it('are at most four mebibytes of small tensors', () => {
    const tensor: Tensor = { type: 'float32', dims: [1, 15_000], data: new Float32Array(15_000) };
    const { requests } = takeDispatch(queueOf(asks(100, { feeds: { x: tensor } }), QUICK), 100);
    expect(requests).toBe(Math.floor(2 ** 22 / 60_000));
  });

  it('with large tensors run alone until it is known that joining them saves time, and then up to 16 mebibytes', () => {
    const mebibyte: Tensor = { type: 'float32', dims: [1, 2 ** 18], data: new Float32Array(2 ** 18) };
    const queue = queueOf(asks(100, { feeds: { x: mebibyte }, apartBytes: 2 ** 20 }), QUICK);
    expect(shapeOf(queue, 3)).toEqual([['single', 0, 1, 2]]);
    for (let call = 0; call < 2 * COMPARED_CALLS; call += 1)
      queue.batching.largeJoins.add(2 ** 20, 1 + 3 * (call % 2), 1);
    expect(takeDispatch(queue, 100)).toMatchObject({ requests: 16, groups: [{ joined: true }] });
  });
});

describe('requests that cannot be joined', () => {
  it('share a message up to about a millisecond of work', () => {
    expect(shapeOf(queueOf(asks(20), [[1, 0.25]], false))).toEqual([['single', 0, 1, 2, 3]]);
    expect(shapeOf(queueOf(asks(20), [[1, 7]], false))).toEqual([['single', 0]]);
  });

  it('are at most 128, however quick they are', () => {
    expect(shapeOf(queueOf(asks(300), [[1, 0.0001]], false))[0]).toHaveLength(1 + 128);
  });

  it('are expected to take as long as all of them together', () => {
    expect(takeDispatch(queueOf(asks(3), [[1, 0.25]], false), 3).expectedMs).toBeCloseTo(0.75);
    expect(takeDispatch(queueOf(asks(3), [], false), 3).expectedMs).toBeUndefined();
  });
});

describe('the time in which what waits is expected to run', () => {
  const drainOf = (requests: number, calls: readonly (readonly [size: number, ms: number])[], batching?: Batching) => {
    const queue = queueOf(asks(requests), calls, batching);
    queue.times.addLoad(10);
    return expectedDrainMs(queue);
  };

  it.each<[string, number, readonly (readonly [size: number, ms: number])[], Batching | undefined, number]>([
    ['is that of one after the other when they are not joined', 7, [[1, 3]], false, 21],
    ['is that of full batches', 65, [...QUICK], { maxSize: 32 }, 65 * (0.1 / 127) + 3 * (0.1 - 0.1 / 127)],
    [
      'is that of batches as large as their time allows',
      20,
      [
        [1, 10],
        [2, 20],
      ],
      undefined,
      200,
    ],
    ['counts on batches that take no longer while no larger ones were tried', 60, [[1, 0.5]], { maxSize: 64 }, 0.5],
    ['counts on no larger batches than there may be', 60, [[1, 0.5]], { maxSize: 4 }, 15 * 0.5],
    ['is unknown before the first run', 60, [], undefined, 0],
  ])('%s', (_, requests, calls, batching, milliseconds) => {
    expect(drainOf(requests, calls, batching)).toBeCloseTo(milliseconds, 6);
  });

  it('counts the rows of requests that have several', () => {
    const queue = queueOf(
      asks(4, { feeds: rows(8) }),
      [
        [8, 8],
        [16, 16],
      ],
      { maxSize: 16, targetLatencyMs: 1_000 },
    );
    queue.times.addLoad(10);
    expect(expectedDrainMs(queue)).toBeCloseTo(32, 6);
  });

  it('is unknown before the first load, and nothing when none waits', () => {
    expect(expectedDrainMs(queueOf(asks(3), QUICK))).toBe(0);
    expect(drainOf(0, QUICK)).toBe(0);
  });
});
