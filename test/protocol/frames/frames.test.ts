import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SharedBytes } from '../../../dist/protocol/frames/array-kinds.js';
import type { Counts } from '../../../dist/protocol/frames/frame-format.js';
import { readMessage } from '../../../dist/protocol/frames/frame-message.js';
import { FrameReader } from '../../../dist/protocol/frames/frame-reader.js';
import { writeCounts, writeFrame } from '../../../dist/protocol/frames/frame-writer.js';

const KINDS = [Uint8Array, Int8Array, Uint8ClampedArray, Uint16Array, Int16Array, Uint32Array, Int32Array];
const MORE_KINDS = [Float32Array, Float64Array, BigInt64Array, BigUint64Array];

/** Views of every kind, on a part of a buffer, from empty ones to those that travel by themselves. */
const view = fc
  .record({
    kind: fc.constantFrom(...KINDS, ...MORE_KINDS),
    length: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constantFrom(2_047, 4_096, 16_384, 40_000)),
    before: fc.integer({ min: 0, max: 3 }),
    isShared: fc.boolean(),
    seed: fc.integer(),
  })
  .map(({ kind: Kind, length, before, isShared, seed }) => {
    const bytes = (length + before) * Kind.BYTES_PER_ELEMENT;
    const buffer = isShared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
    new Uint8Array(buffer).forEach((_, at, all) => {
      all[at] = (at * 31 + seed) & 0x3f;
    });
    return new Kind(buffer as ArrayBuffer, before * Kind.BYTES_PER_ELEMENT, length);
  });

const value = fc.letrec<{ any: unknown }>((tie) => ({
  any: fc.oneof(
    { depthSize: 'small' },
    fc.oneof(fc.string({ unit: 'binary' }), fc.double(), fc.bigInt(), fc.boolean(), fc.constant(undefined)),
    view,
    fc.array(tie('any'), { maxLength: 4 }),
    fc.dictionary(fc.string({ maxLength: 4 }), tie('any'), { maxKeys: 4 }),
    fc.date({ noInvalidDate: true }),
    fc.uniqueArray(fc.tuple(fc.string(), tie('any')), { maxLength: 2 }).map((entries) => new Map(entries)),
  ),
})).any;

const counts = fc.tuple(fc.double({ noNaN: true }), fc.nat(), fc.nat());

function readerOf(received: (message: unknown, counts: Counts) => void): FrameReader {
  return new FrameReader((frame) => {
    received(readMessage(frame), frame.counts);
    return true;
  });
}

function inChunks(pieces: readonly Uint8Array[], sizes: readonly number[]): Uint8Array[] {
  const all = Buffer.concat(pieces);
  const chunks: Uint8Array[] = [];
  for (let at = 0, index = 0; at < all.length; index += 1) {
    const size = sizes[index % sizes.length] as number;
    chunks.push(all.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

it('carry what structured clone carries, whatever pieces they come in', () => {
  const frame = fc.tuple(fc.option(value, { nil: null }), counts);
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 60 }), fc.constant(65_536)), {
    minLength: 1,
    maxLength: 5,
  });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 5 }), sizes, (frames, chunkSizes) => {
      const received: [unknown, Counts][] = [];
      const reader = readerOf((...read) => received.push(read));
      // A number stands for a frame of counts alone: a message is an object.
      const pieces = frames.flatMap(([message, told]) =>
        message === null ? writeCounts(told) : writeFrame({ message }, told),
      );
      for (const chunk of inChunks(pieces, chunkSizes)) {
        reader.push(chunk);
        // Nothing of a chunk is kept: the socket fills the same memory again.
        chunk.fill(0xff);
      }
      const expected = frames.map(([message, told]) => [message === null ? undefined : { message }, told]);
      expect(received).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

it('give each view memory of its own, and no more of it than the view had', () => {
  const whole = new Float32Array(100).fill(7);
  const large = new Float32Array(20_000).fill(8);
  const received: unknown[] = [];
  const reader = readerOf((message) => received.push(message));
  for (const piece of writeFrame([whole.subarray(1, 3), large.subarray(1, 10_001)], [0, 0, 0])) reader.push(piece);
  const [[small, apart]] = received as [[Float32Array, Float32Array]];
  expect([small.length, small.buffer.byteLength]).toEqual([2, 8]);
  expect([apart.length, apart.buffer.byteLength, apart[0]]).toEqual([10_000, 40_000, 8]);
});

it.each([0, 10, 70_000])('carry memory that threads share as a copy: %i bytes', (bytes) => {
  const contents = new SharedArrayBuffer(bytes);
  new Uint8Array(contents).fill(5);
  const received: { contents: SharedArrayBuffer }[] = [];
  const reader = readerOf((message) => received.push(message as never));
  for (const piece of writeFrame({ contents: new SharedBytes(contents) }, [0, 0, 0])) reader.push(piece);
  const copy = received[0]?.contents as SharedArrayBuffer;
  expect([Object.prototype.toString.call(copy), copy === contents]).toEqual(['[object SharedArrayBuffer]', false]);
  expect(new Uint8Array(copy)).toEqual(new Uint8Array(contents));
});

it.each([
  ['a function', () => undefined],
  ['a port', new MessageChannel().port1],
  ['a promise', Promise.resolve()],
  ['memory that threads share', new SharedArrayBuffer(4)],
])('refuse %s', (_, refused) => {
  expect(() => writeFrame({ refused }, [0, 0, 0])).toThrow(/could not be cloned|cannot be sent/);
});

it('are refused when their bytes are none', () => {
  const broken = Buffer.alloc(64, 0xee);
  broken.writeUInt32LE(8, 0);
  expect(() => readerOf(() => undefined).push(broken)).toThrow();
});

it('can be read by several readers in turn: each stops behind a frame, and the next one goes on with the rest', () => {
  const sizes = fc.array(fc.integer({ min: 50, max: 50_000 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(
      fc.array(value, { maxLength: 6 }),
      sizes,
      fc.integer({ min: 1, max: 3 }),
      (values, chunkSizes, each) => {
        const received: unknown[] = [];
        let ofThisReader = 0;
        const newReader = () => {
          ofThisReader = 0;
          return new FrameReader((frame) => {
            received.push((readMessage(frame) as { message: unknown }).message);
            ofThisReader += 1;
            return ofThisReader < each;
          });
        };
        let reader = newReader();
        const pieces = values.flatMap((message) => writeFrame({ message }, [0, 0, 0]));
        for (const chunk of inChunks(pieces, chunkSizes)) {
          for (let rest = chunk; rest.length > 0; ) {
            rest = reader.push(rest);
            expect(rest.length === 0 || reader.isBetweenFrames).toBe(true);
            if (ofThisReader === each) reader = newReader();
          }
        }
        expect(received).toEqual(values);
      },
    ),
  );
});

it('are refused when a message names more arrays than came with it, or more bytes than it has', () => {
  const [head, message] = writeFrame([new Uint8Array(20_000)], [0, 0, 0]) as [Uint8Array, Uint8Array];
  const alone = { counts: [0, 0, 0] as const, message, aparts: [] };
  expect(() => readMessage(alone)).toThrow('more arrays than its frame has');
  const small = writeFrame([new Uint8Array(8)], [0, 0, 0])[0] as Uint8Array;
  expect(() => readMessage({ ...alone, message: small.subarray(32, -9) })).toThrow();
  const long = Buffer.from(head);
  long.writeUInt32LE(2 ** 32 - 1, 4);
  expect(() => readerOf(() => undefined).push(long)).toThrow('too long');
});
