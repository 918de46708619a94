import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkFeeds, checkOutputNames } from '../../dist/tensors/check-feeds.js';
import { ownFeeds } from '../../dist/tensors/memory/own-feeds.js';
import { readFeeds } from '../../dist/tensors/read-feeds.js';
import type { Feeds, ReadFeeds, Tensor, ValueMetadata } from '../../dist/tensors/tensor.js';

const one = (input: unknown): Tensor => {
  const feeds = readFeeds({ x: input } as Feeds);
  ownFeeds(feeds);
  return feeds['x'] as Tensor;
};
const message = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`;
  }
  return 'accepted';
};

describe('the type of a tensor', () => {
  it.each([
    [new Float32Array(1), 'float32'],
    [new Float64Array(1), 'float64'],
    [new Int8Array(1), 'int8'],
    [new Uint8Array(1), 'uint8'],
    [Buffer.from([1]), 'uint8'],
    [new Int16Array(1), 'int16'],
    [new Uint16Array(1), 'uint16'],
    [new Int32Array(1), 'int32'],
    [new Uint32Array(1), 'uint32'],
    [new BigInt64Array(1), 'int64'],
    [new BigUint64Array(1), 'uint64'],
    [['a'], 'string'],
    [new Uint8ClampedArray(1), 'uint8'],
    [runInNewContext('new Float32Array(1)'), 'float32'],
    [runInNewContext('new BigUint64Array(1)'), 'uint64'],
    [runInNewContext('new Uint8ClampedArray(1)'), 'uint8'],
    [runInNewContext('["a"]'), 'string'],
  ])('is inferred from %o', (data, type) => {
    expect(one({ data, dims: [1] }).type).toBe(type);
  });

  it('is named for bool and float16', () => {
    expect(one({ data: new Uint8Array(1), dims: [1], type: 'bool' }).type).toBe('bool');
    expect(one({ data: new Uint16Array(1), dims: [1], type: 'float16' }).type).toBe('float16');
    expect(one({ data: new Uint8ClampedArray(1), dims: [1], type: 'bool' }).type).toBe('bool');
    expect(one({ data: runInNewContext('new Uint8Array(1)'), dims: [1], type: 'bool' }).type).toBe('bool');
  });
});

it('arrays of every class that fits are carried by the class of their type, of this realm', () => {
  for (const given of ['new Uint8ClampedArray([3, 255])', 'new Uint8Array([3, 255])']) {
    const { data } = one({ data: runInNewContext(given), dims: [2] });
    expect({ data, isOwn: data instanceof Uint8Array }).toEqual({ data: Uint8Array.of(3, 255), isOwn: true });
  }
});

// A class of newer versions of Node.
const Float16 = (globalThis as { Float16Array?: new (given: number[]) => ArrayBufferView }).Float16Array;
it.skipIf(Float16 === undefined)('a Float16Array is float16 by itself', () => {
  const data = Reflect.construct(Float16 as new () => Float32Array, [[1, -2]]);
  expect(one({ data, dims: [2] })).toEqual({ type: 'float16', dims: [2], data: Uint16Array.of(0x3c00, 0xc000) });
});

describe('feeds are refused with what was expected and what came', () => {
  const data = new Float32Array(4);
  it.each([
    [null, 'input "x" must be a tensor { data, dims, type? }, got null'],
    [{ data, dims: [2, 3] }, 'input "x": dims [ 2, 3 ] need 6 elements, data has 4'],
    [{ data, dims: [-2, -2] }, 'input "x": dims must be an array of integers from 0 to 2147483647, got [ -2, -2 ]'],
    [{ data, dims: [1.5] }, 'input "x": dims must be an array of integers from 0 to 2147483647, got [ 1.5 ]'],
    [{ data }, 'input "x": dims must be an array of integers from 0 to 2147483647, got undefined'],
    [{ data: 'text', dims: [] }, 'input "x": data must be a typed array, or an array of numbers'],
    [{ data: 7, dims: [] }, 'booleans or strings, got 7'],
    [{ data: new DataView(new ArrayBuffer(8)), dims: [2] }, 'booleans or strings, got DataView'],
    [{ data: new ArrayBuffer(8), dims: [2] }, 'booleans or strings, got ArrayBuffer'],
    [{ data: [[1, 2]], dims: [1, 2] }, 'got an array in an array: flatten it, for example with data.flat(Infinity)'],
    [{ data: [data], dims: [1, 4] }, 'got an array in an array: flatten it, for example with data.flat(Infinity)'],
    [{ data: [1, [2]], dims: [2] }, 'got [ 2 ] at index 1; flatten arrays in arrays'],
    [{ data: [1, 'a'], dims: [2] }, 'data must hold numbers alone, as at index 0, got "a" at index 1'],
    [{ data: [true, 0], dims: [2] }, 'data must hold booleans alone, as at index 0, got 0 at index 1'],
    [{ data: new Array(2), dims: [2] }, 'booleans or strings, got undefined'],
    // biome-ignore lint/suspicious/noSparseArray: an array with a hole is what is refused.
    [{ data: [1, , 3], dims: [3] }, 'data must hold numbers alone, as at index 0, got undefined at index 1'],
    [{ data: ['a', null], dims: [2] }, 'data must hold strings alone, as at index 0, got null at index 1'],
    [{ data: [1n << 64n], dims: [1], type: 'uint64' }, '18446744073709552000 at index 0 is no uint64: expected an'],
    [[1, 2], 'must be a tensor { data, dims, type? }, got [ 1, 2 ]'],
    [data, 'must be a tensor { data, dims, type? }, got Float32Array(4) [ 0, 0, 0, 0 ]'],
    [{ data: ['a', ['b']], dims: [2] }, "got [ 'b' ] at index 1; flatten arrays in arrays"],
    [{ data: [0.5], dims: [1], type: 'int64' }, 'input "x": 0.5 at index 0 is no int64: expected an integer from -9'],
    [{ data: ['1'], dims: [1], type: 'int64' }, 'int64 data must be numbers, got an array of strings'],
    [{ data: [1], dims: [1], type: 'string' }, 'input "x" must be string, got an array of numbers'],
    [{ data, dims: [4], type: 'int32' }, 'int32 data must be a Int32Array, got a Float32Array'],
    [{ data, dims: [4], type: 'bfloat16' }, 'type must be one of float32'],
  ])('%o', (input, expected) => {
    expect(message(() => one(input))).toContain(`INVALID_ARGUMENT: ${expected.startsWith('input') ? expected : ''}`);
    expect(message(() => one(input))).toContain(expected);
  });

  it('when they are no object', () => {
    expect(message(() => readFeeds(undefined as unknown as Feeds))).toContain('feeds must be an object');
  });
});

describe('ownership', () => {
  it('copies, so that the caller may change its arrays at once', () => {
    fc.assert(
      fc.property(fc.float32Array({ minLength: 1 }), (data) => {
        const before = [...data];
        const tensor = one({ data, dims: [data.length] });
        data.fill(7);
        expect([...(tensor.data as Float32Array)]).toEqual(before);
      }),
    );
  });

  it('copies only the view of a larger buffer, and out of shared memory', () => {
    const view = new Float32Array([1, 2, 3, 4]).subarray(1, 3);
    expect(one({ data: view, dims: [2] }).data).toEqual(Float32Array.of(2, 3));
    expect((one({ data: view, dims: [2] }).data as Float32Array).buffer).not.toBe(view.buffer);
    const shared = new Float32Array(new SharedArrayBuffer(8));
    expect((one({ data: shared, dims: [2] }).data as Float32Array).buffer).toBeInstanceOf(ArrayBuffer);
    const pooled = Buffer.from('abc');
    const tensor = one({ data: pooled, dims: [3] });
    pooled.fill(0);
    expect([...(tensor.data as Uint8Array)]).toEqual([97, 98, 99]);
  });

  it('uses the memory of large copies again, once they are given back, and not before', () => {
    const large = (first: number) => readFeeds({ x: { data: new Float32Array(10_000).fill(first), dims: [10_000] } });
    const bufferOf = (feeds: ReadFeeds) => (feeds['x'] as { data: Float32Array }).data.buffer;
    const [one, two, three] = [large(1), large(2), large(3)];
    const { release: giveBack } = ownFeeds(one);
    ownFeeds(two);
    expect(bufferOf(two)).not.toBe(bufferOf(one));
    giveBack?.();
    giveBack?.();
    ownFeeds(three);
    expect(bufferOf(three)).toBe(bufferOf(one));
    expect(three).toEqual(large(3));
    const four = large(4);
    ownFeeds(four);
    expect(bufferOf(four)).not.toBe(bufferOf(three));
  });

  it.each([16, 10_000])(
    'copies the elements alone, whatever the class of an array of %i makes of a buffer',
    (length) => {
      class Greedy extends Float32Array {
        constructor(source: number | ArrayBuffer) {
          super(source as ArrayBuffer);
        }
      }
      const { data } = one({ data: new Greedy(length).fill(7), dims: [length] });
      expect({ class: data.constructor.name, length: data.length }).toEqual({ class: 'Float32Array', length });
      expect((data as Float32Array).every((element) => element === 7)).toBe(true);
    },
  );

  it('refuses an array that changes its length while the others are read', () => {
    // The compiler's library is older than resizable buffers.
    type Resizable = ArrayBuffer & { resize(bytes: number): void };
    const buffer = Reflect.construct(ArrayBuffer, [40_000, { maxByteLength: 80_000 }]) as Resizable;
    const feeds = {
      x: { data: new Float32Array(buffer), dims: [10_000] },
      get y() {
        buffer.resize(60_000);
        return { data: new Float32Array(1), dims: [1] };
      },
    };
    const read = readFeeds(feeds);
    expect(message(() => ownFeeds(read))).toBe('INVALID_ARGUMENT: input "x": data changed its length meanwhile');
  });

  it('has nothing to give back of small ones and of those it took over', () => {
    const nothing = { release: undefined, takeOver: undefined, apartBytes: 0 };
    expect(ownFeeds(readFeeds({ x: { data: new Float32Array(16), dims: [16] } }))).toEqual(nothing);
    const taken = readFeeds({ x: { data: new Float32Array(10_000), dims: [10_000] } });
    expect(ownFeeds(taken, { isTransfer: true }).release).toBeUndefined();
  });

  it('takes arrays over when told to', () => {
    const data = Float32Array.of(1, 2);
    const [view, empty] = [new Float32Array([1, 2, 3]).subarray(1), new Float32Array(0)];
    const feeds = readFeeds({
      x: { data, dims: [2] },
      y: { data, dims: [1, 2] },
      view: { data: view, dims: [2] },
      empty: { data: empty, dims: [0] },
    });
    const { takeOver } = ownFeeds(feeds, { isTransfer: true });
    expect(data.length).toBe(2);
    takeOver?.();
    expect({ data: data.length, view: view.length }).toEqual({ data: 0, view: 2 });
    expect(feeds).toMatchObject({
      x: { data: Float32Array.of(1, 2) },
      y: { data: Float32Array.of(1, 2) },
      view: { data: Float32Array.of(2, 3) },
      empty: { data: new Float32Array(0) },
    });
  });
});

it('takes over arrays of another realm, too', () => {
  const data = runInNewContext('Float32Array.of(1, 2)') as Float32Array;
  const feeds: ReadFeeds = { x: { type: 'float32', dims: [2], data } };
  ownFeeds(feeds, { isTransfer: true }).takeOver?.();
  expect([data.length, feeds['x']?.data]).toEqual([0, Float32Array.of(1, 2)]);
});

describe('feeds against the metadata of a model', () => {
  const inputs: ValueMetadata[] = [
    { name: 'image', type: 'float32', shape: ['N', 3] },
    { name: 'scale', type: 'float64', shape: [] },
  ];
  const image = { type: 'float32', dims: [2, 3], data: new Float32Array(6) } as const;
  const scale = { type: 'float64', dims: [], data: new Float64Array(1) } as const;

  it.each([
    [{ image, scale }, 'accepted'],
    [{ image: { ...image, dims: [0, 3] }, scale }, 'accepted'],
    [{ image, scale: { ...scale, dims: [1, 1] } }, 'accepted'],
    [{ image }, 'model "m": input "scale" is missing; expected "image", "scale"'],
    [{ image, scale, mask: image }, 'model "m" has no input "mask"; expected "image", "scale"'],
    [{ image: scale, scale }, 'model "m": input "image" must be float32, got float64'],
    [{ image: { ...image, dims: [6] }, scale }, 'model "m": input "image" must have dims [N, 3], got [6]'],
    [{ image: { ...image, dims: [3, 2] }, scale }, 'model "m": input "image" must have dims [N, 3], got [3, 2]'],
  ])('%j', (feeds, expected) => {
    expect(message(() => checkFeeds('m', feeds, inputs))).toContain(expected);
  });

  it('take the types of the inputs, of which elements without a type are checked alone', () => {
    const read = (data: unknown) =>
      readFeeds({ image: { dims: [1, 3], data }, scale: { dims: [], data: [2] } } as Feeds);
    const feeds = read([1, 2.5, -0]);
    checkFeeds('m', feeds, inputs);
    expect(feeds).toEqual({
      image: { type: 'float32', dims: [1, 3], data: Float32Array.of(1, 2.5, -0) },
      scale: { type: 'float64', dims: [], data: Float64Array.of(2) },
    });
    expect(message(() => checkFeeds('m', read([1, 2, 1e39]), inputs))).toBe(
      'INVALID_ARGUMENT: model "m": input "image": 1e+39 at index 2 is no float32: the number is too large',
    );
    expect(message(() => checkFeeds('m', read(Float64Array.of(1, 2, 3)), inputs))).toContain(
      'must be float32, got float64',
    );
  });

  it('names the outputs there are, and why another cannot be returned', () => {
    const omittedOutputs = [{ name: 'pairs', reason: 'it is a sequence' }];
    const metadata = { inputs: [], outputs: inputs, omittedOutputs };
    expect(message(() => checkOutputNames('m', ['scale', 'pairs'], metadata))).toBe(
      'INVALID_ARGUMENT: model "m": output "pairs" cannot be returned: it is a sequence; expected "image", "scale"',
    );
    expect(message(() => checkOutputNames('m', ['scale'], metadata))).toBe('accepted');
    expect(message(() => checkOutputNames('m', ['nothing'], metadata))).toContain(
      'has no output "nothing"; expected "image"',
    );
  });
});
