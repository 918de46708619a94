import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkFeeds, checkOutputNames } from '../../dist/tensors/check-feeds.js';
import { copyFeeds, transferableBuffers, transferFeeds } from '../../dist/tensors/own-feeds.js';
import { readFeeds } from '../../dist/tensors/read-feeds.js';
import type { Feeds, Tensor, TensorFeeds, ValueMetadata } from '../../dist/tensors/tensor.js';

const one = (input: unknown): Tensor => {
  const feeds = readFeeds({ x: input } as Feeds);
  copyFeeds(feeds);
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
  ])('is inferred from %o', (data, type) => {
    expect(one({ data, dims: [1] }).type).toBe(type);
  });

  it('is named for bool and float16', () => {
    expect(one({ data: new Uint8Array(1), dims: [1], type: 'bool' }).type).toBe('bool');
    expect(one({ data: new Uint16Array(1), dims: [1], type: 'float16' }).type).toBe('float16');
  });
});

describe('feeds are refused with what was expected and what came', () => {
  const data = new Float32Array(4);
  it.each([
    [null, 'input "x" must be a tensor { data, dims, type? }, got null'],
    [{ data, dims: [2, 3] }, 'input "x": dims [ 2, 3 ] need 6 elements, data has 4'],
    [{ data, dims: [-2, -2] }, 'input "x": dims must be an array of integers from 0 to 2147483647, got [ -2, -2 ]'],
    [{ data, dims: [1.5] }, 'input "x": dims must be an array of integers from 0 to 2147483647, got [ 1.5 ]'],
    [{ data }, 'input "x": dims must be an array of integers from 0 to 2147483647, got undefined'],
    [{ data: [1, 2], dims: [2] }, 'array of strings, got an array with 1 at index 0'],
    [{ data: 'text', dims: [] }, 'input "x": data must be a typed array or an array of strings, got "text"'],
    [{ data: new Uint8ClampedArray(1), dims: [1] }, 'data must be the array of a tensor type, got a Uint8ClampedArray'],
    [{ data, dims: [4], type: 'int32' }, 'int32 data must be a Int32Array, got a Float32Array'],
    [{ data, dims: [4], type: 'bfloat16' }, 'type must be one of float32'],
  ])('%j', (input, expected) => {
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
    const bufferOf = (feeds: TensorFeeds) => (feeds['x'] as { data: Float32Array }).data.buffer;
    const [one, two, three] = [large(1), large(2), large(3)];
    const giveBack = copyFeeds(one);
    copyFeeds(two);
    expect(bufferOf(two)).not.toBe(bufferOf(one));
    giveBack?.();
    giveBack?.();
    copyFeeds(three);
    expect(bufferOf(three)).toBe(bufferOf(one));
    expect(three).toEqual(large(3));
    const four = large(4);
    copyFeeds(four);
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
    expect(message(() => copyFeeds(read))).toBe('INVALID_ARGUMENT: input "x": data changed its length meanwhile');
  });

  it('has nothing to give back of small ones and of those it took over', () => {
    expect(copyFeeds(readFeeds({ x: { data: new Float32Array(16), dims: [16] } }))).toBeUndefined();
    const taken = readFeeds({ x: { data: new Float32Array(10_000), dims: [10_000] } });
    expect(copyFeeds(taken, transferableBuffers(taken))).toBeUndefined();
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
    const buffers = transferableBuffers(feeds);
    copyFeeds(feeds, buffers);
    transferFeeds(feeds, buffers);
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
  const feeds: TensorFeeds = { x: { type: 'float32', dims: [2], data } };
  const buffers = transferableBuffers(feeds);
  copyFeeds(feeds, buffers);
  transferFeeds(feeds, buffers);
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

  it('names the outputs there are', () => {
    expect(message(() => checkOutputNames('m', ['scale'], inputs))).toBe('accepted');
    expect(message(() => checkOutputNames('m', ['nothing'], inputs))).toContain(
      'has no output "nothing"; expected "image"',
    );
  });
});
