import protobuf from 'protobufjs/minimal.js';
import { InfermuxError } from '../../common/errors.js';
import { setProperty } from '../../tensors/tensor.js';
import type { Parameters } from '../inference-call.js';
import { Budget, readContents, writeContents } from './contents-codec.js';
import type { ReceivedMessage, WireRequest, WireResponse, WireStreamResponse, WireTensor } from './infer-messages.js';

/*
 * The messages with tensors, by the numbers of proto/open_inference.proto. Raw contents of a message that was received are
 * views on it.
 */

const { Reader, Writer } = protobuf;

type Reader = protobuf.Reader;
type Writer = protobuf.Writer;

/** Far more than a message of a model has. */
const MOST_TENSORS = 10_000;
const MOST_DIMS = 64;

/** Returns the number of a field and how it is written. */
const tag = (field: number, wire: number) => field * 8 + wire;
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;

const NONE: Parameters = Object.freeze({});

export function decodeRequest(bytes: Uint8Array): ReceivedMessage {
  const reader = Reader.create(bytes);
  const message = new ReceivedRequest(bytes.length);
  const budget = new Budget();
  const { inputs, raw_input_contents: raw, outputs } = message;
  for (let next = nextTag(reader, reader.len); next !== END; next = nextTag(reader, reader.len)) {
    if (next === tag(5, BYTES)) inputs.push(readTensor(reader, budget));
    else if (next === tag(6, BYTES)) outputs.push(readOutput(reader, budget));
    else if (next === tag(7, BYTES)) raw.push(reader.bytes());
    else readBase(reader, next, message, budget);
    if (inputs.length > MOST_TENSORS || outputs.length > MOST_TENSORS || raw.length > MOST_TENSORS) throw tooMany();
  }
  return message;
}

export function decodeResponse(bytes: Uint8Array): WireResponse {
  return readResponse(Reader.create(bytes), bytes.length);
}

function readResponse(reader: Reader, end: number): WireResponse {
  const message = new ReceivedResponse();
  const budget = new Budget();
  const { outputs, raw_output_contents: raw } = message;
  for (let next = nextTag(reader, end); next !== END; next = nextTag(reader, end)) {
    if (next === tag(5, BYTES)) outputs.push(readTensor(reader, budget));
    else if (next === tag(6, BYTES)) raw.push(reader.bytes());
    else readBase(reader, next, message, budget);
    if (outputs.length > MOST_TENSORS || raw.length > MOST_TENSORS) throw tooMany();
  }
  return message;
}

export function decodeStreamResponse(bytes: Uint8Array): WireStreamResponse {
  const reader = Reader.create(bytes);
  let error_message = '';
  let infer_response: WireResponse | undefined;
  while (reader.pos < reader.len) {
    const next = reader.uint32();
    if (next === tag(1, BYTES)) error_message = reader.string();
    else if (next === tag(2, BYTES)) {
      const length = reader.uint32();
      infer_response = readResponse(reader, reader.pos + length);
    } else reader.skipType(next & 7);
  }
  return { error_message, infer_response };
}

export function encodeRequest(request: WireRequest): Buffer {
  const writer = Writer.create();
  writeHead(writer, request);
  for (const input of request.inputs) writeTensor(writer, input);
  for (const { name, parameters } of request.outputs) {
    writer.uint32(tag(6, BYTES)).fork().uint32(tag(1, BYTES)).string(name);
    writeParameters(writer, 2, parameters);
    writer.ldelim();
  }
  for (const raw of request.raw_input_contents) writer.uint32(tag(7, BYTES)).bytes(raw);
  return writer.finish() as Buffer;
}

export function encodeResponse(response: WireResponse): Buffer {
  return writeResponse(Writer.create(), response).finish() as Buffer;
}

export function encodeStreamResponse({ error_message, infer_response }: WireStreamResponse): Buffer {
  const writer = Writer.create();
  if (error_message !== '') writer.uint32(tag(1, BYTES)).string(error_message);
  if (infer_response !== undefined) writeResponse(writer.uint32(tag(2, BYTES)).fork(), infer_response).ldelim();
  return writer.finish() as Buffer;
}

/** No field has this tag. */
const END = -1;

/** Returns the tag of the next field; {@link END} at the end of the message. */
function nextTag(reader: Reader, end: number): number {
  if (reader.pos < end) return reader.uint32();
  if (reader.pos > end) throw new RangeError('a message ends within a field');
  return END;
}

// Classes: those of grpc-js live as long as their calls. See PendingRequest.

/** The fields that requests and answers have under the same numbers. */
class Received {
  model_name = '';
  model_version = '';
  id = '';
  parameters = NONE;
}

class ReceivedRequest extends Received implements ReceivedMessage {
  readonly byteLength: number;
  readonly inputs: WireTensor[] = [];
  readonly outputs: WireRequest['outputs'][number][] = [];
  readonly raw_input_contents: Uint8Array[] = [];

  constructor(byteLength: number) {
    super();
    this.byteLength = byteLength;
  }
}

class ReceivedResponse extends Received implements WireResponse {
  readonly outputs: WireTensor[] = [];
  readonly raw_output_contents: Uint8Array[] = [];
}

function readBase(reader: Reader, next: number, message: Received, budget: Budget): void {
  if (next === tag(1, BYTES)) message.model_name = reader.string();
  else if (next === tag(2, BYTES)) message.model_version = reader.string();
  else if (next === tag(3, BYTES)) message.id = reader.string();
  else if (next === tag(4, BYTES)) message.parameters = readParameter(reader, message.parameters, budget);
  else reader.skipType(next & 7);
}

function readTensor(reader: Reader, budget: Budget): WireTensor {
  const end = endOf(reader);
  let [name, datatype] = ['', ''];
  const shape: number[] = [];
  let parameters = NONE;
  let contents: WireTensor['contents'];
  while (reader.pos < end) {
    const next = reader.uint32();
    if (next === tag(1, BYTES)) name = reader.string();
    else if (next === tag(2, BYTES)) datatype = reader.string();
    else if (next === tag(3, BYTES)) for (const last = endOf(reader); reader.pos < last; ) readDim(reader, shape);
    else if (next === tag(3, VARINT)) readDim(reader, shape);
    else if (next === tag(4, BYTES)) parameters = readParameter(reader, parameters, budget);
    else if (next === tag(5, BYTES)) contents = readContents(reader, endOf(reader), budget) ?? contents;
    else reader.skipType(next & 7);
  }
  return { name, datatype, shape, parameters, contents };
}

function readDim(reader: Reader, shape: number[]): void {
  if (shape.length > MOST_DIMS) throw tooMany();
  const size = reader.int64() as number | { readonly low: number; readonly high: number };
  shape.push(typeof size === 'number' ? size : size.high * 2 ** 32 + (size.low >>> 0));
}

function readOutput(reader: Reader, budget: Budget): WireRequest['outputs'][number] {
  const end = endOf(reader);
  let name = '';
  let parameters = NONE;
  while (reader.pos < end) {
    const next = reader.uint32();
    if (next === tag(1, BYTES)) name = reader.string();
    else if (next === tag(2, BYTES)) parameters = readParameter(reader, parameters, budget);
    else reader.skipType(next & 7);
  }
  return { name, parameters };
}

/** Reads an entry of a map of parameters. @returns the parameters with it. */
function readParameter(reader: Reader, before: Parameters, budget: Budget): Parameters {
  budget.takeParameter();
  const end = endOf(reader);
  const parameters: Record<string, unknown> = before === NONE ? {} : (before as Record<string, unknown>);
  let name = '';
  let value: unknown;
  while (reader.pos < end) {
    const next = reader.uint32();
    if (next === tag(1, BYTES)) name = reader.string();
    else if (next === tag(2, BYTES)) value = readChoice(reader);
    else reader.skipType(next & 7);
  }
  setProperty(parameters, name, value);
  return parameters;
}

function readChoice(reader: Reader): unknown {
  const end = endOf(reader);
  let value: unknown;
  while (reader.pos < end) {
    const next = reader.uint32();
    if (next === tag(1, VARINT)) value = reader.bool();
    else if (next === tag(2, VARINT)) value = BigInt(reader.int64().toString());
    else if (next === tag(3, BYTES)) value = reader.string();
    else if (next === tag(4, FIXED64)) value = reader.double();
    else if (next === tag(5, VARINT)) value = BigInt(reader.uint64().toString());
    else reader.skipType(next & 7);
  }
  // Most are small.
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/** Reads the length of what follows. @returns where it ends. */
function endOf(reader: Reader): number {
  const length = reader.uint32();
  const end = reader.pos + length;
  if (end > reader.len) throw new RangeError('a field is longer than its message');
  return end;
}

function writeResponse(writer: Writer, response: WireResponse): Writer {
  writeHead(writer, response);
  for (const output of response.outputs) writeTensor(writer, output);
  for (const raw of response.raw_output_contents) writer.uint32(tag(6, BYTES)).bytes(raw);
  return writer;
}

function writeHead(writer: Writer, { model_name, model_version, id, parameters }: Received): void {
  if (model_name !== '') writer.uint32(tag(1, BYTES)).string(model_name);
  if (model_version !== '') writer.uint32(tag(2, BYTES)).string(model_version);
  if (id !== '') writer.uint32(tag(3, BYTES)).string(id);
  writeParameters(writer, 4, parameters);
}

function writeTensor(writer: Writer, { name, datatype, shape, parameters, contents }: WireTensor): void {
  writer.uint32(tag(5, BYTES)).fork();
  writer.uint32(tag(1, BYTES)).string(name);
  writer.uint32(tag(2, BYTES)).string(datatype);
  if (shape.length > 0) {
    writer.uint32(tag(3, BYTES)).fork();
    for (const size of shape) writer.int64(size);
    writer.ldelim();
  }
  writeParameters(writer, 4, parameters);
  if (contents !== undefined) writeContents(writer.uint32(tag(5, BYTES)).fork(), contents).ldelim();
  writer.ldelim();
}

function writeParameters(writer: Writer, field: number, parameters: Parameters): void {
  for (const name in parameters) {
    const value = parameters[name];
    if (value === undefined) continue;
    writer.uint32(tag(field, BYTES)).fork().uint32(tag(1, BYTES)).string(name);
    writer.uint32(tag(2, BYTES)).fork();
    if (typeof value === 'boolean') writer.uint32(tag(1, VARINT)).bool(value);
    else if (typeof value === 'number' && !Number.isSafeInteger(value)) writer.uint32(tag(4, FIXED64)).double(value);
    else if (typeof value === 'number') writer.uint32(tag(2, VARINT)).int64(value);
    else writer.uint32(tag(3, BYTES)).string(String(value));
    writer.ldelim().ldelim();
  }
}

function tooMany(): InfermuxError {
  return new InfermuxError(
    'INVALID_ARGUMENT',
    `a message must have at most ${MOST_TENSORS} tensors, of ${MOST_DIMS} dimensions each`,
  );
}
