import { isUtf8 } from 'node:buffer';
import { InfermuxError, type ModelMetadata, type Tensor, type ValueMetadata } from '../../../index.js';
import { BYTES_OF_A_STRING, readByteStrings, textOf } from '../../../open-inference/byte-strings.js';
import { bytesOfElement, datatypeOf, typeOf } from '../../../open-inference/datatypes.js';
import type { InferenceCall } from '../../../open-inference/inference-call.js';
import { doAtOnce, doInTurns } from '../../../open-inference/json/steps.js';
import { type Allocate, bytesOfData, checkBooleans, feedFromRaw } from '../../../open-inference/raw-tensors.js';
import { inferenceCallOf } from '../../../open-inference/rest/infer-request.js';
import {
  type MessageTensor,
  readSmallMessage,
  readTensorMessage,
  type TensorMessage,
} from '../../../open-inference/rest/tensor-message.js';
import type { BodyReader } from './body-reader.js';

/** Up to so many bytes `JSON.parse` is faster than to read the numbers one by one. */
const SMALL_BYTES = 16_384;
/** JSON of more bytes is read in several turns of the event loop. */
const AT_ONCE_BYTES = 65_536;

/** Reads the bodies of inference requests. */
export class InferBodies {
  readonly #allocate: Allocate;
  readonly #inspect: (target: string) => Promise<ModelMetadata>;

  /** @param inspect tells the inputs of what requests for this name go to. */
  constructor(allocate: Allocate, inspect: (target: string) => Promise<ModelMetadata>) {
    this.#allocate = allocate;
    this.#inspect = inspect;
  }

  /**
   * Reads a request.
   *
   * @param headerLength what `Inference-Header-Content-Length` says: bytes of the JSON, which binary tensors follow;
   *   undefined when all of the body is JSON.
   * @throws InfermuxError `INVALID_ARGUMENT` naming the place, what was expected and what came.
   */
  async read(target: string, body: BodyReader, headerLength: number | undefined): Promise<InferenceCall> {
    if (headerLength === 0) return this.#raw(target, body);
    if (headerLength !== undefined) checkHeaderLength(headerLength, body);
    const json = headerLength === undefined ? await body.all() : await body.bytes(headerLength);
    // JSON.parse would put something else in the place of what is none.
    if (!isUtf8(json)) throw invalid('the JSON must be UTF-8');
    const read = this.#message(json);
    const message = 'then' in read ? await read : read;
    checkLengths(message, headerLength, body);
    if (headerLength !== undefined) await this.#receive(message, body);
    return inferenceCallOf(target, message);
  }

  /** Reads a body that is the one input of its model, in binary form; so are the outputs. */
  async #raw(target: string, body: BodyReader): Promise<InferenceCall> {
    const { inputs } = await this.#inspect(target);
    const [input] = inputs;
    if (input === undefined || inputs.length !== 1) {
      throw invalid(`a body without JSON is for models with one input; ${JSON.stringify(target)} has ${inputs.length}`);
    }
    const bytes = await body.all();
    const { name } = input;
    const feeds = { [name]: this.#tensorOf(input, bytes) };
    return { target, id: undefined, feeds, options: {}, outputs: undefined, isBinary: true, hasDetails: false };
  }

  #tensorOf({ name, type, shape }: ValueMetadata, bytes: Buffer): Tensor {
    if (type === 'string') return { type, dims: [1], data: [textOf(`input ${JSON.stringify(name)}`, bytes, 0)] };
    const head = {
      name,
      datatype: datatypeOf(type),
      shape: shapeFor(shape, bytes.length / (bytesOfElement(datatypeOf(type)) ?? 1)),
    };
    return feedFromRaw(`input ${JSON.stringify(name)}`, head, bytes, this.#allocate);
  }

  #message(json: Buffer): TensorMessage | Promise<TensorMessage> {
    const small = json.length <= SMALL_BYTES ? readSmallMessage(json, 'inputs', this.#allocate) : undefined;
    if (small !== undefined) return small;
    const steps = readTensorMessage(json, 'inputs', this.#allocate);
    return json.length <= AT_ONCE_BYTES ? doAtOnce(steps) : doInTurns(steps);
  }

  /** Receives the tensors in binary form, which follow the JSON. */
  async #receive({ tensors }: TensorMessage, body: BodyReader): Promise<void> {
    for (const [index, tensor] of tensors.entries()) {
      if (tensor.tensor === undefined) tensor.tensor = await this.#binary(`inputs[${index}]`, tensor, body);
    }
    await body.end();
  }

  /** Receives a tensor into the memory from which the model will read it. */
  async #binary(where: string, { datatype, shape, binaryBytes = 0 }: MessageTensor, body: BodyReader): Promise<Tensor> {
    const type = typeOf(datatype);
    if (type === 'string') {
      const elements = shape.reduce((product, size) => product * size, 1);
      body.takeMore(Math.min(elements, binaryBytes) * BYTES_OF_A_STRING);
      const bytes = await body.bytes(binaryBytes);
      return { type, dims: shape, data: await doInTurns(readByteStrings(where, bytes, elements)) };
    }
    const tensor = this.#allocate(type, shape);
    const bytes = bytesOfData(tensor.data);
    if (bytes.byteLength > 0) await body.fill(bytes);
    if (type === 'bool') checkBooleans(where, bytes);
    return tensor as Tensor;
  }
}

/** Gives the free dimension of a shape the size that so many elements need. With two free ones, the first is 1. */
function shapeFor(shape: readonly (number | string)[], elements: number): number[] {
  const isFree = (size: number | string) => typeof size === 'string';
  const free = shape.filter(isFree).length;
  const own = free > 1 && isFree(shape[0] as number | string) ? [1, ...shape.slice(1)] : [...shape];
  if (own.filter(isFree).length > 1)
    throw invalid('a body without JSON is for an input with at most one free dimension');
  const fixed = own.reduce<number>((product, size) => product * (typeof size === 'string' ? 1 : size), 1);
  return own.map((size) => (typeof size === 'string' ? Math.floor(elements / Math.max(fixed, 1)) : size));
}

function checkHeaderLength(headerLength: number, { length, maxBytes }: BodyReader): void {
  if (headerLength <= (length ?? maxBytes)) return;
  throw invalid(
    `Inference-Header-Content-Length is ${headerLength}, but the body has at most ${length ?? maxBytes} bytes`,
  );
}

/** Refuses a request whose tensors do not fill its body, before any memory is taken for them. */
function checkLengths(
  { tensors }: TensorMessage,
  headerLength: number | undefined,
  { length, maxBytes }: BodyReader,
): void {
  const binary = tensors.reduce((sum, { binaryBytes = 0 }) => sum + binaryBytes, 0);
  if (headerLength === undefined) {
    if (tensors.every(({ binaryBytes }) => binaryBytes === undefined)) return;
    throw invalid('binary_data_size needs the header Inference-Header-Content-Length, which says how long the JSON is');
  }
  if (length === undefined ? headerLength + binary <= maxBytes : length === headerLength + binary) return;
  if (length === undefined) throw invalid(`the tensors take ${binary} bytes; a body has at most ${maxBytes}`);
  throw invalid(
    `the body has ${length} bytes, but its JSON (${headerLength}) and its tensors (${binary}) take ${headerLength + binary}`,
  );
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
