import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Call, packCalls, splitLarge, splitOutputs } from '../../dist/protocol/call-answers.js';
import { givenIn, type PackedTensor } from '../../dist/protocol/packing.js';
import { joinedFeeds, packGroups, singleFeeds } from '../../dist/protocol/request-groups.js';
import { ownFeeds } from '../../dist/tensors/memory/own-feeds.js';
import { isSpent, place } from '../../dist/tensors/memory/placement.js';
import { readFeeds } from '../../dist/tensors/read-feeds.js';
import type { Tensor, TensorData, TensorFeeds } from '../../dist/tensors/tensor.js';
import { alikeRequests } from '../support/tensors.js';

/** As a message goes from thread to thread. */
const sent = <T>(message: T, transfer: ArrayBuffer[]): T => structuredClone(message, { transfer });

/** Puts arrays of one type end to end. */
const joinArrays = (_type: string, parts: readonly TensorData[]): TensorData => {
  const [first] = parts;
  const all = parts.flatMap((part): unknown[] => [...part]);
  return (Array.isArray(first) ? all : Reflect.construct(first?.constructor as new () => object, [all])) as TensorData;
};

const haveSameDims = (requests: readonly TensorFeeds[]) =>
  requests.every((feeds) =>
    Object.entries(feeds).every(([name, { dims }]) => String(dims) === String(requests[0]?.[name]?.dims)),
  );

/** Each tensor is alone in its memory, an empty one too: its owner may transfer the buffer. */
const expectOwnMemory = (answers: readonly TensorFeeds[]) => {
  const all = answers.flatMap((answer) => Object.values(answer).map(({ data }) => data));
  const views = all.filter((data) => ArrayBuffer.isView(data));
  expect(views.map(({ buffer }) => buffer.byteLength)).toEqual(views.map(({ byteLength }) => byteLength));
  expect(new Set(views.map(({ buffer }) => buffer)).size).toBe(views.length);
  expect(new Set(all).size).toBe(all.length);
};

describe('requests of every type, with no rows, one or several', () => {
  it('come out of a message as they went in, joined or not', () => {
    fc.assert(
      fc.property(alikeRequests, (requests) => {
        for (const joined of haveSameDims(requests) ? [true, false] : [true]) {
          const before = structuredClone(requests);
          const { groups, transfer } = packGroups([
            { feeds: requests, joined, outputs: ['y'], checked: true, hasApart: false },
          ]);
          const [group] = sent(groups, transfer);
          if (group === undefined) throw new Error('no group');
          expect(singleFeeds(group)).toEqual(before);
          expect(requests).toEqual(before);
          expect(group).toMatchObject({ requests: requests.length, outputs: ['y'], checked: true });
        }
      }),
    );
  });

  it('are one tensor for each input when they are joined', () => {
    fc.assert(
      fc.property(alikeRequests, (requests) => {
        const { groups, transfer } = packGroups([
          { feeds: requests, joined: true, outputs: undefined, checked: true, hasApart: false },
        ]);
        const [group] = sent(groups, transfer);
        if (group === undefined) throw new Error('no group');
        for (const [name, { dims, data }] of Object.entries(joinedFeeds(group, joinArrays))) {
          const parts = requests.map((feeds) => feeds[name] as Tensor);
          expect(dims).toEqual([
            parts.reduce((rows, part) => rows + (part.dims[0] ?? 0), 0),
            ...(parts[0]?.dims.slice(1) ?? []),
          ]);
          expect([...data]).toEqual(parts.flatMap((part): unknown[] => [...part.data]));
        }
      }),
    );
  });

  it('arrive whole, though some of their tensors go by themselves and others are copied', () => {
    const joined = fc.boolean();
    fc.assert(
      fc.property(alikeRequests, joined, fc.infiniteStream(fc.boolean()), (before, isJoined, picks) => {
        const requests = structuredClone(before);
        const tensors = requests.flatMap((feeds) => Object.values(feeds));
        const isWhole = ({ data }: Tensor) => ArrayBuffer.isView(data) && data.byteLength === data.buffer.byteLength;
        const given = tensors.filter((tensor) => isWhole(tensor) && picks.next().value);
        for (const tensor of given) place(tensor, 'given');
        fc.pre(isJoined || haveSameDims(requests));
        const packed = packGroups([
          { feeds: requests, joined: isJoined, outputs: undefined, checked: true, hasApart: true },
        ]);
        expect(new Set(packed.apart)).toEqual(new Set(given));
        const [group] = sent(packed.groups, packed.transfer);
        if (group === undefined) throw new Error('no group');
        expect(singleFeeds(group)).toEqual(before);
        expect(givenIn([group]).length).toBe(given.length);
        expect(given.every(({ data, dims }) => data.length === 0 || isSpent({ data, dims }))).toBe(true);
        if (!isJoined) return;
        for (const [name, { data }] of Object.entries(joinedFeeds(group, joinArrays))) {
          expect([...data]).toEqual(before.flatMap((feeds): unknown[] => [...(feeds[name] as Tensor).data]));
        }
      }),
    );
  });

  it('get answers of their own out of the answer to a batch, sharing no memory', () => {
    fc.assert(
      fc.property(alikeRequests, (requests) => {
        const { groups } = packGroups([
          { feeds: requests, joined: true, outputs: undefined, checked: true, hasApart: false },
        ]);
        const [group] = groups;
        if (group === undefined) throw new Error('no group');
        const call: Call = {
          requests: requests.length,
          runMs: 1,
          outputs: joinedFeeds(group, joinArrays),
          error: undefined,
        };
        const { calls, transfer } = packCalls([[call]]);
        const [[answer] = []] = sent(calls, transfer);
        const rows = requests.length === 1 ? undefined : group.rows;
        const answers = splitOutputs(answer?.outputs ?? [], requests.length, rows);
        expect(answers).toEqual(requests);
        expectOwnMemory(answers);
      }),
    );
  });

  it('get answers of their own out of calls that were made one by one', () => {
    fc.assert(
      fc.property(alikeRequests, (requests) => {
        const before = structuredClone(requests);
        const single = requests.map(
          (outputs, index): Call => ({ requests: 1, runMs: index, outputs, error: undefined }),
        );
        const { calls, transfer } = packCalls([single]);
        const answers = sent(calls, transfer).flat();
        const outputs = answers.flatMap((answer) => splitOutputs(answer.outputs ?? [], answer.requests, undefined));
        expect(outputs).toEqual(before);
        expectOwnMemory(outputs);
        expect(answers.flatMap(({ runMs }) => runMs)).toEqual(requests.map((_, index) => index));
      }),
    );
  });
});

describe('a message', () => {
  const row = (length: number) =>
    ({ x: { type: 'float32', dims: [1, length], data: new Float32Array(length) } }) as const;
  const call = (length: number): Call => ({ requests: 1, runMs: 1, outputs: row(length), error: undefined });

  it('hands over one buffer for many requests of several types', () => {
    const feeds = Array.from({ length: 50 }, () => ({
      ...row(200),
      n: { type: 'int64', dims: [1, 3], data: new BigInt64Array(3) } as const,
    }));
    const { transfer } = packGroups([
      { feeds, joined: true, outputs: undefined, checked: true, hasApart: false },
      { feeds, joined: false, outputs: undefined, checked: true, hasApart: false },
    ]);
    expect(transfer.length).toBe(1);
    expect(transfer[0]?.byteLength).toBeGreaterThanOrEqual(2 * 50 * (200 * 4 + 3 * 8));
  });

  it('carries the feeds of its requests alone, of the memory that they share with other requests', () => {
    const feeds = readFeeds(row(4));
    ownFeeds(feeds);
    const bytesOf = ({ data }: { data: unknown }) => (data as Float32Array).buffer.byteLength;
    expect(Object.values(feeds).map(bytesOf)).not.toEqual([16]);
    const { groups, transfer } = packGroups([
      { feeds: [feeds], joined: false, outputs: undefined, checked: true, hasApart: false },
    ]);
    expect(
      sent(groups, transfer).flatMap(({ inputs }) => inputs.map((input) => bytesOf(input as PackedTensor))),
    ).toEqual([16]);
  });

  it('copies what is small, puts small answers end to end, and hands large ones over as they are', () => {
    expect(
      packGroups([{ feeds: [row(4)], joined: false, outputs: undefined, checked: true, hasApart: false }]).transfer,
    ).toEqual([]);
    expect(packCalls([[call(4)]]).transfer).toEqual([]);
    const small = packCalls([Array.from({ length: 64 }, () => call(100))]);
    expect({ answers: small.calls.flat().length, buffers: small.transfer.length }).toEqual({ answers: 1, buffers: 1 });
    const large = packCalls([Array.from({ length: 3 }, () => call(100_000))]);
    expect({ answers: large.calls.flat().length, buffers: large.transfer.length }).toEqual({ answers: 3, buffers: 3 });
  });

  it('takes large outputs of a batch apart, so that nobody copies them again', () => {
    const data = Float32Array.from({ length: 3 * 20_000 }, (_, index) => index);
    const outputs = { y: { type: 'float32', dims: [3, 20_000], data } } as const;
    const parts = splitLarge(outputs, 2, [1, 2]);
    const batch: Call = { requests: 2, runMs: 1, outputs, error: undefined, parts };
    const { calls, transfer } = packCalls([[batch]]);
    const [[answer] = []] = sent(calls, transfer);
    const [first, second] = splitOutputs(answer?.outputs ?? [], 2, [1, 2]);
    expect([first?.['y']?.dims, second?.['y']?.dims]).toEqual([
      [1, 20_000],
      [2, 20_000],
    ]);
    expect([first?.['y']?.data[0], second?.['y']?.data[0], second?.['y']?.data.at(-1)]).toEqual([0, 20_000, 59_999]);
    expect(splitLarge(row(4), 1, 1)).toBeUndefined();
  });

  it('keeps apart answers of other dims, errors and batches', () => {
    const error = { code: 'INFERENCE_FAILED', message: 'no' } as NonNullable<Call['error']>;
    const failed: Call = { requests: 1, runMs: 1, outputs: undefined, error };
    const batch: Call = { requests: 2, runMs: 1, outputs: row(4), error: undefined };
    const { calls } = packCalls([[call(4), call(4), call(5), failed, call(4), batch]]);
    expect(calls.flat().map(({ requests, joined }) => [requests, joined])).toEqual([
      [2, false],
      [1, false],
      [1, false],
      [1, false],
      [2, true],
    ]);
    expect(calls.flat()[2]?.error).toBe(error);
  });
});
