import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { describe, expect, it } from 'vitest';
import { allocateOwn } from '../../dist/client/transports/own-tensors.js';
import { datatypeOf } from '../../dist/open-inference/datatypes.js';
import {
  decodeRequest,
  decodeResponse,
  decodeStreamResponse,
  encodeRequest,
  encodeResponse,
  encodeStreamResponse,
} from '../../dist/open-inference/grpc/infer-codec.js';
import { contentsOf, tensorFromContents } from '../../dist/open-inference/grpc/typed-contents.js';
import { rawFromTensor, tensorFromRaw } from '../../dist/open-inference/raw-tensors.js';
import type { Tensor } from '../../dist/tensors/tensor.js';
import { tensorOf, tensorType } from '../support/tensors.js';

const root = new protobuf.Root().loadSync(fileURLToPath(new URL('../../proto/open_inference.proto', import.meta.url)), {
  keepCase: true,
});
const Request = root.lookupType('inference.ModelInferRequest');
const Response = root.lookupType('inference.ModelInferResponse');
const StreamResponse = root.lookupType('inference.ModelStreamInferResponse');

const parameter = fc.oneof(
  fc.boolean(),
  fc.maxSafeInteger(),
  fc.string(),
  fc.double({ noNaN: true }).filter((value) => !Number.isSafeInteger(value)),
);
const parameters = fc.dictionary(fc.string(), parameter, { maxKeys: 3, noNullPrototype: true });

const wireTensor = fc
  .tuple(fc.string(), tensorType, fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }), parameters, fc.boolean())
  .chain(([name, type, shape, own, isRaw]) =>
    tensorOf(type, shape).map((tensor) => {
      const datatype = datatypeOf(type);
      const contents = isRaw ? undefined : contentsOf(tensor, datatype);
      // An empty list is not written.
      return { name, datatype, shape, parameters: own, contents: contents?.values.length === 0 ? undefined : contents };
    }),
  );

const head = { model_name: fc.string(), model_version: fc.string(), id: fc.string(), parameters };
const raws = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 3 });
const request = fc.record({
  ...head,
  inputs: fc.array(wireTensor, { maxLength: 3 }),
  outputs: fc.array(fc.record({ name: fc.string(), parameters }), { maxLength: 3 }),
  raw_input_contents: raws,
});
const response = fc.record({ ...head, outputs: fc.array(wireTensor, { maxLength: 3 }), raw_output_contents: raws });

/** A message as protobufjs has it, so that two of them can be compared. */
const shown = (type: protobuf.Type, bytes: Uint8Array) =>
  type.toObject(type.decode(bytes), { longs: String, bytes: String, oneofs: true });

/** The same with lists for bytes and typed arrays, and texts for bigints. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`;
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value as Uint8Array, plain);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

describe('the codec of messages with tensors', () => {
  it('writes requests that protobufjs reads, and reads what protobufjs writes', () => {
    fc.assert(
      fc.property(request, (message) => {
        const bytes = encodeRequest(message as never);
        const again = Buffer.from(Request.encode(Request.decode(bytes)).finish());
        const { byteLength: _, ...read } = decodeRequest(again);
        expect(plain(decodeRequest(bytes))).toMatchObject(plain(read) as object);
        expect(plain(decodeRequest(bytes))).toStrictEqual(plain({ ...(message as object), byteLength: bytes.length }));
      }),
      { numRuns: 500 },
    );
  });

  it('does the same for answers, alone and in streams', () => {
    fc.assert(
      fc.property(response, fc.string(), (message, error_message) => {
        const bytes = encodeResponse(message as never);
        const again = Buffer.from(Response.encode(Response.decode(bytes)).finish());
        expect(plain(decodeResponse(again))).toStrictEqual(plain(message as never));
        const streamed = encodeStreamResponse({ error_message, infer_response: message as never });
        expect(shown(StreamResponse, streamed)['infer_response']).toStrictEqual(shown(Response, bytes));
        const read = decodeStreamResponse(streamed);
        expect(read.error_message).toBe(error_message);
        expect(plain(read.infer_response as never)).toStrictEqual(plain(message as never));
      }),
      { numRuns: 300 },
    );
  });

  it('reads raw contents as views, without a copy', () => {
    const raw = new Uint8Array(1_000).fill(7);
    const bytes = encodeRequest({
      ...{ model_name: 'm', model_version: '', id: '', parameters: {} },
      ...{ raw_input_contents: [raw], inputs: [], outputs: [] },
    });
    const [view] = decodeRequest(bytes).raw_input_contents;
    expect(view?.buffer).toBe(bytes.buffer);
    expect(view).toEqual(Buffer.from(raw));
  });

  it('ends with an answer or an error for any bytes', () => {
    const mutated = request.chain((message) => {
      const bytes = encodeRequest(message as never);
      return fc
        .array(fc.tuple(fc.nat(Math.max(0, bytes.length - 1)), fc.nat(255)), { minLength: 1, maxLength: 4 })
        .map((changes) => {
          for (const [at, byte] of changes) bytes[at] = byte;
          return bytes;
        });
    });
    fc.assert(
      fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 60 })), (bytes) => {
        for (const decode of [decodeRequest, decodeResponse, decodeStreamResponse]) {
          try {
            decode(Buffer.from(bytes));
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('the elements of a tensor', () => {
  const tensor = fc
    .tuple(tensorType, fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }))
    .chain(([type, dims]) => tensorOf(type, dims));
  const headOf = ({ type, dims }: Tensor) => ({ name: 'x', datatype: datatypeOf(type), shape: dims });

  it('are the same after their binary form, wherever it lies in memory', () => {
    fc.assert(
      fc.property(tensor, fc.nat(7), (given, offset) => {
        const raw = rawFromTensor(given);
        const shifted = new Uint8Array(raw.length + offset).subarray(offset);
        shifted.set(raw);
        expect(tensorFromRaw('x', headOf(given), shifted, allocateOwn)).toStrictEqual({ ...given });
      }),
      { numRuns: 500 },
    );
  });

  it('are the same after their typed form', () => {
    fc.assert(
      fc.property(
        tensor.filter(({ type }) => type !== 'float16'),
        (given) => {
          const contents = contentsOf(given, datatypeOf(given.type));
          expect(tensorFromContents('x', headOf(given), contents, allocateOwn)).toStrictEqual({ ...given });
        },
      ),
      { numRuns: 500 },
    );
  });

  it('are refused in the wrong field, in another number, and out of the range of their type', () => {
    const x = { name: 'x', datatype: 'INT8', shape: [1] } as const;
    const of = (head: object, field: number, values: unknown) => () =>
      tensorFromContents('x', head as never, { field, values } as never, allocateOwn);
    expect(of(x, 6, [1])).toThrow('INT8 belongs in int_contents, got fp32_contents');
    expect(of(x, 2, [1, 2])).toThrow('needs 1 elements, contents has 2');
    expect(of(x, 2, [128])).toThrow('element 0 of INT8 must be in its range, got 128');
    expect(of({ ...x, datatype: 'FP16' }, 2, [1])).toThrow('FP16 needs raw_input_contents');
    expect(of({ ...x, datatype: 'BYTES' }, 8, [Uint8Array.of(0xff)])).toThrow('element 0 must be UTF-8');
  });

  it('are refused in a binary form of another length', () => {
    const x = { name: 'x', datatype: 'FP32', shape: [2] } as const;
    const of = (head: object, bytes: readonly number[]) => () =>
      tensorFromRaw('x', head as never, Uint8Array.from(bytes), allocateOwn);
    expect(of(x, [1])).toThrow('FP32 of shape [ 2 ] takes 8 bytes, got 1');
    expect(of({ ...x, datatype: 'BOOL' }, [1, 2])).toThrow('a byte of BOOL must be 0 or 1, got 2 at 1');
    expect(of({ ...x, datatype: 'BYTES' }, [1, 0, 0])).toThrow('needs its length in 4 bytes');
    expect(of({ ...x, datatype: 'BYTES' }, [9, 0, 0, 0, 1])).toThrow('as many bytes after it');
    expect(of({ ...x, datatype: 'BYTES' }, [0, 0, 0, 0])).toThrow('the shape needs 2 elements, data has 1');
    expect(of({ ...x, datatype: 'BYTES', shape: [0] }, [0, 0, 0, 0])).toThrow('data has more');
  });
});
