import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { allocateOwn } from '../../dist/client/transports/own-tensors.js';
import { typeOf } from '../../dist/open-inference/datatypes.js';
import { JsonCutter } from '../../dist/open-inference/json/json-cutter.js';
import { NumberReader } from '../../dist/open-inference/json/number-reader.js';
import { doAtOnce } from '../../dist/open-inference/json/steps.js';
import { readTensorMessage } from '../../dist/open-inference/rest/tensor-message.js';

const FORM = { isSingle: false, isBoolean: false, large: undefined };

function numbersIn(text: string, form = FORM): number[] {
  const bytes = Buffer.from(text);
  const reader = new NumberReader('data', bytes, 0, bytes.length, form);
  const chunk = new Float64Array(7);
  const numbers: number[] = [];
  for (;;) {
    const filled = reader.fill(chunk);
    numbers.push(...chunk.subarray(0, filled));
    if (filled < chunk.length) return numbers;
  }
}

/** Any nesting of a list, as JSON with spaces anywhere. */
const nested = (items: fc.Arbitrary<string>) =>
  fc.letrec<{ list: string; item: string }>((tie) => ({
    list: fc
      .tuple(fc.array(tie('item'), { maxLength: 5 }), fc.constantFrom('', ' ', '\n', '\t '))
      .map(([parts, space]) => `[${space}${parts.join(`${space},${space}`)}${space}]`),
    item: fc.oneof({ maxDepth: 4 }, items, tie('list')),
  })).list;

const numberText = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.float({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.maxSafeInteger().map(String),
  fc.bigInt({ min: -(2n ** 80n), max: 2n ** 80n }).map(String),
  fc
    .tuple(fc.nat(), fc.stringMatching(/^\d{1,30}$/), fc.integer({ min: -330, max: 330 }))
    .map(([whole, fraction, power]) => `${whole}.${fraction}e${power}`),
  fc.constantFrom('0', '-0', '0.0', '1E5', '1e+5', '1e-5', '5e-324', '1.7976931348623157e308', '1e400'),
);

describe('the reader of numbers', () => {
  it('reads what JSON.parse reads, to the last bit', () => {
    fc.assert(
      fc.property(nested(numberText), (text) => {
        const expected = (JSON.parse(text) as number[]).flat(Number.POSITIVE_INFINITY) as number[];
        expect(numbersIn(text)).toStrictEqual(expected);
      }),
      { numRuns: 3_000 },
    );
  });

  it('reads the nearest float32, also of numbers with many digits and beside the middle of two', () => {
    const middle = fc
      .float({ noNaN: true, noDefaultInfinity: true })
      .chain((value) => fc.integer({ min: -3, max: 3 }).map((steps) => besideMiddle(value, steps)))
      .filter(Number.isFinite);
    const text = fc.oneof(
      numberText,
      middle.map((value) => JSON.stringify(value)),
      middle.map((value) => value.toPrecision(30)),
    );
    fc.assert(
      fc.property(text, (number) => {
        const [read] = numbersIn(`[${number}]`, { ...FORM, isSingle: true }) as [number];
        expect(Math.fround(read)).toBe(Math.fround(Number(number)));
      }),
      { numRuns: 5_000 },
    );
  });

  it('reads NaN and infinity, as Triton writes them', () => {
    expect(numbersIn('[NaN, Infinity,-Infinity ]')).toStrictEqual([Number.NaN, Infinity, -Infinity]);
  });

  it('refuses what is no list of numbers, and says where', () => {
    const wrong = ['[1,,2]', '[1 2]', '[', '[1', '[1,]', ']', '[1]]', '[1] 2', '[01]', '[1.]', '[1e]', '[-]', '["1"]'];
    for (const text of [...wrong, '[true]', '[null]', '[{}]', '{}', '[1.e5]', '[.5]', '[+1]', '[nan]', '', '[0x1]']) {
      expect(() => numbersIn(text), text).toThrow(/^data: expected .* at element \d+, got /);
    }
  });
});

/** A double that lies some steps beside the middle of a float32 and the next one. */
function besideMiddle(value: number, steps: number): number {
  const single = new Float32Array([value]);
  const bits = new Int32Array(single.buffer);
  const low = single[0] as number;
  bits[0] = (bits[0] as number) + 1;
  const middle = new Float64Array([(low + (single[0] as number)) / 2]);
  const doubleBits = new BigInt64Array(middle.buffer);
  doubleBits[0] = (doubleBits[0] as bigint) + BigInt(steps);
  return middle[0] as number;
}

describe('the cutter', () => {
  const anyJson = fc.jsonValue({ maxDepth: 4 });
  const tensorJson = fc.record(
    { name: fc.string(), data: anyJson, shape: anyJson, parameters: anyJson },
    { requiredKeys: [] },
  );
  const message = fc.record(
    { inputs: fc.oneof(fc.array(tensorJson), anyJson), outputs: anyJson, data: anyJson, id: fc.string() },
    { requiredKeys: [] },
  );

  it.each([1, 3, 1_000_000])('cuts the data of tensors out, and nothing else, in steps of %i bytes', (budget) => {
    fc.assert(
      fc.property(message, fc.constantFrom(undefined, 1), (value, indent) => {
        const bytes = Buffer.from(JSON.stringify(value, null, indent));
        const cutter = new JsonCutter(bytes, 'inputs');
        while (!cutter.step(budget));
        const rest = JSON.parse(cutter.rest);
        const expected = JSON.parse(bytes.toString());
        if (Array.isArray(rest.inputs)) {
          for (const [index, tensor] of (rest.inputs as unknown[]).entries()) {
            if (tensor === null || typeof tensor !== 'object' || Array.isArray(tensor) || !('data' in tensor)) continue;
            const { start, end } = cutter.ranges[tensor.data as number] as { start: number; end: number };
            tensor.data = JSON.parse(bytes.toString('utf8', start, end));
            expect(tensor.data).toStrictEqual(expected.inputs[index].data);
          }
        }
        expect(rest).toStrictEqual(expected);
      }),
      { numRuns: 1_000 },
    );
  });

  it('knows a key that is written with escapes', () => {
    const cutter = new JsonCutter(Buffer.from('{"inp\\u0075ts":[{"d\\u0061ta":[7]}]}'), 'inputs');
    while (!cutter.step(100));
    expect(JSON.parse(cutter.rest)).toStrictEqual({ inputs: [{ data: 0 }] });
  });

  it('comes to an end of any bytes', () => {
    const bytesOfJson = fc.array(fc.constantFrom(...'{}[]",:\\ad0 "inputs" "data"'.split('')), { maxLength: 80 });
    fc.assert(
      fc.property(bytesOfJson, (characters) => {
        const text = characters.join('');
        try {
          doAtOnce(readTensorMessage(Buffer.from(text), 'inputs', allocateOwn));
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
        }
      }),
      { numRuns: 3_000 },
    );
  });
});

const read = (tensor: object) =>
  doAtOnce(readTensorMessage(Buffer.from(JSON.stringify({ inputs: [tensor] })), 'inputs', allocateOwn)).tensors[0];
const raw = (data: string, rest: object) => {
  const head = JSON.stringify({ name: 'x', ...rest }).slice(1, -1);
  return doAtOnce(readTensorMessage(Buffer.from(`{"inputs":[{${head},"data":${data}}]}`), 'inputs', allocateOwn));
};

describe('a message', () => {
  it('has 64-bit integers with all digits', () => {
    const data = '[9223372036854775807,-9223372036854775808,[9007199254740993],1e3,-1,4294967296,-4294967297]';
    const { tensors } = raw(data, { datatype: 'INT64', shape: [7] });
    const expected = [2n ** 63n - 1n, -(2n ** 63n), 9007199254740993n, 1000n, -1n, 4294967296n, -4294967297n];
    expect(tensors[0]?.tensor?.data).toStrictEqual(BigInt64Array.from(expected));
    const unsigned = raw('[18446744073709551615, 0]', { datatype: 'UINT64', shape: [2] });
    expect(unsigned.tensors[0]?.tensor?.data).toStrictEqual(BigUint64Array.of(2n ** 64n - 1n, 0n));
  });

  it('has every 64-bit integer', () => {
    fc.assert(
      fc.property(fc.array(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { maxLength: 30 }), (values) => {
        const { tensors } = raw(`[${values.join()}]`, { datatype: 'INT64', shape: [values.length] });
        expect(tensors[0]?.tensor?.data).toStrictEqual(BigInt64Array.from(values));
      }),
    );
  });

  it('has any nesting, BYTES too, and true and false', () => {
    expect(read({ name: 'x', shape: [2, 1], datatype: 'BYTES', data: [['a"'], ['é\n']] })?.tensor?.data).toStrictEqual([
      'a"',
      'é\n',
    ]);
    expect(
      read({
        name: 'x',
        shape: [2, 2],
        datatype: 'BOOL',
        data: [
          [true, false],
          [1, 0],
        ],
      })?.tensor?.data,
    ).toStrictEqual(Uint8Array.of(1, 0, 1, 0));
  });

  it.each([
    ['another number of elements', '[1,2]', { datatype: 'FP32', shape: [3] }, /needs 3 elements, data has (fewer|2)/],
    ['more elements', '[1,2,3,4]', { datatype: 'FP32', shape: [3] }, /needs 3 elements, data has more/],
    ['a shape of more elements than there are bytes', '[1]', { datatype: 'FP32', shape: [2e9, 2e9] }, /data has fewer/],
    ['a negative dimension', '[1]', { datatype: 'FP32', shape: [-1] }, /shape must be a list of at most 64 integers/],
    ['a shape that is none', '[1]', { datatype: 'FP32', shape: '1' }, /shape must be a list/],
    ['FP16', '[1]', { datatype: 'FP16', shape: [1] }, /FP16 has no JSON form/],
    ['BF16', '[1]', { datatype: 'BF16', shape: [1] }, /BF16 is not supported/],
    ['an unknown type', '[1]', { datatype: 'FP8', shape: [1] }, /datatype must be one of BOOL, /],
    [
      'an integer out of its range',
      '[128]',
      { datatype: 'INT8', shape: [1] },
      /element 0 of INT8 must be an integer from -128/,
    ],
    ['a fraction for an integer', '[1.5]', { datatype: 'INT32', shape: [1] }, /element 0 of INT32/],
    ['a fraction for INT64', '[1.5]', { datatype: 'INT64', shape: [1] }, /element 0 of INT64/],
    ['an integer beyond INT64', '[9223372036854775808]', { datatype: 'INT64', shape: [1] }, /element 0 of INT64/],
    ['a negative UINT64', '[-1]', { datatype: 'UINT64', shape: [1] }, /element 0 of UINT64/],
    [
      'a text for a number',
      '["1"]',
      { datatype: 'FP32', shape: [1] },
      /expected a number at element 0, got "\\"1\\"\]"/,
    ],
    ['a number for a text', '[1]', { datatype: 'BYTES', shape: [1] }, /expected a string at element 0/],
    ['both forms of data', '[1]', { datatype: 'FP32', shape: [1], parameters: { binary_data_size: 4 } }, /it has both/],
  ])('is refused with %s', (_, data, rest, message) => {
    expect(() => raw(data, rest)).toThrow(message);
  });

  it('is refused with a name twice, without a name, with neither form of data, or nested too deeply', () => {
    const x = { name: 'x', shape: [1], datatype: 'FP32' };
    const of = (inputs: unknown) =>
      doAtOnce(readTensorMessage(Buffer.from(JSON.stringify({ inputs })), 'inputs', allocateOwn));
    expect(() =>
      of([
        { ...x, data: [1] },
        { ...x, data: [1] },
      ]),
    ).toThrow('inputs names "x" twice');
    expect(() => of([{ ...x, name: '' }])).toThrow('inputs[0].name must be a non-empty string');
    expect(() => of([x])).toThrow('it has neither');
    expect(() => of([null])).toThrow('inputs[0] must be a tensor');
    expect(() => of({})).toThrow('inputs must be a list');
    expect(() => of([{ ...x, parameters: [] }])).toThrow('inputs[0].parameters must be an object');
    const deep = Buffer.from(`{"inputs":[],"a":${'['.repeat(100)}${']'.repeat(100)}}`);
    expect(() => doAtOnce(readTensorMessage(deep, 'inputs', allocateOwn))).toThrow('nested at most 64 deep');
  });

  it('is refused when much of it is no data', () => {
    const long = Buffer.from(JSON.stringify({ inputs: [], id: 'x'.repeat(2 ** 20) }));
    expect(() => doAtOnce(readTensorMessage(long, 'inputs', allocateOwn))).toThrow('must have at most 1048576 bytes');
  });

  it('knows the type of every data type', () => {
    expect(['BOOL', 'INT64', 'BYTES', 'FP16'].map((name) => typeOf(name as 'BOOL'))).toStrictEqual([
      ...['bool', 'int64', 'string', 'float16'],
    ]);
  });
});
