import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fromFloat16, toFloat16 } from '../../dist/tensors/float16.js';
import { ARRAY_TYPES, type TensorType } from '../../dist/tensors/tensor.js';
import { readElements, toType } from '../../dist/tensors/untyped-elements.js';

const convert = (type: TensorType, given: readonly unknown[]): unknown => {
  try {
    return toType('input "x"', type, readElements('input "x"', given));
  } catch (error) {
    return `${(error as { code: string }).code}: ${(error as Error).message}`;
  }
};

const BITS = {
  int8: 7,
  int16: 15,
  int32: 31,
  int64: 63,
  uint8: 8,
  uint16: 16,
  uint32: 32,
  uint64: 64,
  bool: 1,
} as const;
type IntegerType = keyof typeof BITS;
const lowestOf = (type: IntegerType) => (type.startsWith('int') ? -(2n ** BigInt(BITS[type])) : 0n);
const highestOf = (type: IntegerType) => 2n ** BigInt(BITS[type]) - 1n;

describe.each(Object.keys(BITS) as IntegerType[])('elements for %s', (type) => {
  const isBig = type === 'int64' || type === 'uint64';

  it('are the same integers if all are in its range, and otherwise refused, as bigints and as numbers', () => {
    const edges = fc.constantFrom(lowestOf(type), highestOf(type), lowestOf(type) - 1n, highestOf(type) + 1n);
    const anywhere = fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n });
    fc.assert(
      fc.property(
        fc.array(fc.oneof(edges, anywhere, fc.bigInt({ min: -300n, max: 300n })), { minLength: 1 }),
        (all) => {
          const isIn = all.every((element) => element >= lowestOf(type) && element <= highestOf(type));
          const asBigints = convert(type, all);
          if (isIn) expect([...(asBigints as Uint8Array)].map(BigInt)).toEqual(all);
          else expect(asBigints).toContain(`is no ${type}: expected `);
          if (all.some((element) => BigInt(Number(element)) !== element)) return;
          const asNumbers = convert(type, all.map(Number));
          if (isIn) expect(asNumbers).toEqual(asBigints);
          else expect(asNumbers).toContain(`is no ${type}: expected `);
        },
      ),
    );
  });

  it('are 1 and 0 for true and false', () => {
    const Carrier = ARRAY_TYPES[type] as Uint8ArrayConstructor;
    const [one, zero] = (isBig ? [1n, 0n] : [1, 0]) as [number, number];
    expect(convert(type, [true, false])).toEqual(Carrier.of(one, zero));
  });

  it.each([0.5, Number.NaN, Number.POSITIVE_INFINITY, -1e300])('do not hold %d', (value) => {
    expect(convert(type, [0, value])).toMatch(
      new RegExp(`^INVALID_ARGUMENT: input "x": .* at index 1 is no ${type}: expected`),
    );
  });
});

describe('elements for floating-point numbers', () => {
  it('are the nearest ones', () => {
    expect(convert('float32', [0.1, Number.NaN, Number.NEGATIVE_INFINITY])).toEqual(
      Float32Array.of(0.1, Number.NaN, Number.NEGATIVE_INFINITY),
    );
    expect(convert('float64', [0.1, 1e300])).toEqual(Float64Array.of(0.1, 1e300));
    expect(convert('float16', [1, -2, 65_504, 0.1])).toEqual(Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x2e66));
    expect(convert('float32', [3n, -(2n ** 60n)])).toEqual(Float32Array.of(3, -(2 ** 60)));
    expect(convert('float32', [true, false])).toEqual(Float32Array.of(1, 0));
    expect(convert('float32', [2n ** 64n, -1n])).toEqual(Float32Array.of(2 ** 64, -1));
    expect(convert('float64', [2n ** 100n])).toEqual(Float64Array.of(2 ** 100));
  });

  it.each([
    ['float32', 3.5e38],
    ['float16', 65_520],
    ['float16', -1e9],
  ] as const)('are refused when %s would be infinite', (type, value) => {
    expect(convert(type, [0, value])).toBe(
      `INVALID_ARGUMENT: input "x": ${value} at index 1 is no ${type}: the number is too large`,
    );
  });
});

it('an empty array has the type that is asked for', () => {
  for (const type of Object.keys(ARRAY_TYPES) as TensorType[]) {
    expect(convert(type, [])).toEqual(Reflect.construct(ARRAY_TYPES[type], []));
  }
});

it('every float16 is the nearest one of the number it stands for, and of all numbers nearer to it', () => {
  for (let bits = 0; bits < 0x10000; bits += 1) {
    const value = fromFloat16(bits);
    if (Number.isNaN(value)) expect(Number.isNaN(fromFloat16(toFloat16(value)))).toBe(true);
    else if (toFloat16(value) !== bits) expect.fail(`${value} is ${toFloat16(value)} instead of ${bits}`);
  }
  const finite = fc.integer({ min: 0, max: 0x7bfe });
  fc.assert(
    fc.property(finite, fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), (bits, share, isNegative) => {
      const [below, above] = [fromFloat16(bits), fromFloat16(bits + 1)];
      const value = below + share * (above - below);
      const middle = (below + above) / 2;
      const isAbove = value > middle || (value === middle && bits % 2 === 1);
      expect(toFloat16(isNegative ? -value : value)).toBe((isAbove ? bits + 1 : bits) | (isNegative ? 0x8000 : 0));
    }),
  );
});
