import type protobuf from 'protobufjs/minimal.js';
import { InfermuxError } from '../../common/errors.js';
import { CONTENTS, type ContentsField, type WireTensor } from './infer-messages.js';

type Reader = protobuf.Reader;
type Writer = protobuf.Writer;

const BYTES = 2;
/** Elements that are read one by one. More of them are to be sent as raw contents, which take no time to read. */
const MOST_READ = 2 ** 20;
const MOST_PARAMETERS = 16_384;

/** What one message may have of what takes far more memory than bytes on the wire. */
export class Budget {
  #elements = MOST_READ;
  #parameters = MOST_PARAMETERS;

  /** @throws InfermuxError `INVALID_ARGUMENT`. */
  takeElement(): void {
    this.#elements -= 1;
    if (this.#elements >= 0) return;
    throw invalid(`contents must have at most ${MOST_READ} elements: send more of them as raw_input_contents`);
  }

  /** @throws InfermuxError `INVALID_ARGUMENT`. */
  takeParameter(): void {
    this.#parameters -= 1;
    if (this.#parameters < 0) throw invalid(`a message must have at most ${MOST_PARAMETERS} parameters`);
  }
}

type Values = number[] | bigint[] | boolean[] | Uint8Array[];

/** Reads one element of a field. */
const READERS: Readonly<Record<ContentsField, (reader: Reader) => number | bigint | boolean | Uint8Array>> = {
  [CONTENTS.bool]: (reader) => reader.bool(),
  [CONTENTS.int]: (reader) => reader.int32(),
  [CONTENTS.int64]: (reader) => BigInt(reader.int64().toString()),
  [CONTENTS.uint]: (reader) => reader.uint32(),
  [CONTENTS.uint64]: (reader) => BigInt(reader.uint64().toString()),
  [CONTENTS.fp32]: (reader) => reader.float(),
  [CONTENTS.fp64]: (reader) => reader.double(),
  [CONTENTS.bytes]: (reader) => reader.bytes(),
};

const isField = (field: number): field is ContentsField => field >= CONTENTS.bool && field <= CONTENTS.bytes;

/**
 * Reads an `InferTensorContents`.
 *
 * @returns undefined when it is empty.
 * @throws InfermuxError `INVALID_ARGUMENT` when it has elements of several types, or very many of them.
 */
export function readContents(reader: Reader, end: number, budget: Budget): WireTensor['contents'] {
  let field: ContentsField | undefined;
  const values: unknown[] = [];
  while (reader.pos < end) {
    const next = reader.uint32();
    const own = next >>> 3;
    if (!isField(own)) {
      reader.skipType(next & 7);
      continue;
    }
    if (field !== undefined && field !== own) throw invalid('contents must have elements of one type');
    field = own;
    const isPacked = (next & 7) === BYTES && own !== CONTENTS.bytes;
    const last = isPacked ? reader.uint32() + reader.pos : reader.pos + 1;
    if (isPacked && last > end) throw new RangeError('a field is longer than its message');
    if (isPacked && values.length === 0 && last === end && isFloat(own)) {
      return { field, values: readFloats(reader, own, last - reader.pos) };
    }
    while (reader.pos < last) {
      budget.takeElement();
      values.push(READERS[own](reader));
    }
  }
  return field === undefined ? undefined : { field, values: values as Values };
}

const isFloat = (field: ContentsField) => field === CONTENTS.fp32 || field === CONTENTS.fp64;

/** Packed floats are as they are in memory. */
function readFloats(reader: Reader, field: ContentsField, length: number): Float32Array | Float64Array {
  const Floats = field === CONTENTS.fp32 ? Float32Array : Float64Array;
  if (length % Floats.BYTES_PER_ELEMENT !== 0) throw new RangeError('a list of floats ends within one');
  const floats = new Floats(length / Floats.BYTES_PER_ELEMENT);
  new Uint8Array(floats.buffer).set(reader.buf.subarray(reader.pos, reader.pos + length));
  reader.pos += length;
  return floats;
}

export function writeContents(writer: Writer, { field, values }: NonNullable<WireTensor['contents']>): Writer {
  if (field === CONTENTS.bytes) {
    for (const value of values as readonly Uint8Array[]) writer.uint32(field * 8 + BYTES).bytes(value);
    return writer;
  }
  if (values.length === 0) return writer;
  writer.uint32(field * 8 + BYTES).fork();
  for (const value of values as readonly (number | bigint | boolean)[]) writeElement(writer, field, value);
  return writer.ldelim();
}

function writeElement(writer: Writer, field: ContentsField, value: number | bigint | boolean): void {
  if (field === CONTENTS.bool) writer.bool(value as boolean);
  else if (field === CONTENTS.int) writer.int32(value as number);
  else if (field === CONTENTS.uint) writer.uint32(value as number);
  else if (field === CONTENTS.fp32) writer.float(value as number);
  else if (field === CONTENTS.fp64) writer.double(value as number);
  // protobufjs reads the digits of a text.
  else if (field === CONTENTS.int64) writer.int64(String(value) as unknown as number);
  else writer.uint64(String(value) as unknown as number);
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
