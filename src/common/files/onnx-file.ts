import { type FileHandle, open } from 'node:fs/promises';
import { isUnanswered } from './system-errors.js';

/** The facts that an ONNX file states, without its nodes and weights. */
export interface OnnxFile {
  readonly producer: string;
  /** Version of each operator set by its domain; `ai.onnx` is ONNX itself. */
  readonly opsets: Readonly<Record<string, number>>;
  /** Files that hold some of its weights: paths relative to its folder, as it names them. */
  readonly externalData: readonly string[];
  /** Without those that have a value of their own (initializers). */
  readonly inputs: readonly DeclaredValue[];
  readonly outputs: readonly DeclaredValue[];
}

/** An input or output as the file declares it. */
export interface DeclaredValue {
  readonly name: string;
  readonly isTensor: boolean;
  /** Type of its elements, in onnxruntime-node's words; undefined when the file does not say, or for no tensor. */
  readonly type: string | undefined;
}

/** What a look at a file has shown: that it is an ONNX file, that it is none, or nothing. */
export type OnnxForm = OnnxFile | 'malformed' | 'unknown';

/** Field numbers of the ONNX specification (onnx.proto3). */
const MODEL = { producerName: 2, graph: 7, opsetImport: 8, functions: 25 } as const;
const OPSET = { domain: 1, version: 2 } as const;
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12 } as const;
const VALUE = { name: 1, type: 2 } as const;
const TYPE = { tensor: 1, sequence: 4, map: 5, sparse: 8, optional: 9 } as const;
const TENSOR_TYPE = { element: 1 } as const;
/** Types of elements by their number in the specification. */
const ELEMENTS: readonly (string | undefined)[] = [
  ...[undefined, 'float32', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16'],
  ...['float64', 'uint32', 'uint64', 'complex64', 'complex128', 'bfloat16', 'float8e4m3fn', 'float8e4m3fnuz'],
  ...['float8e5m2', 'float8e5m2fnuz', 'uint4', 'int4'],
];
const FUNCTION = { node: 7 } as const;
const NODE = { attribute: 5 } as const;
const ATTRIBUTE = { tensor: 5, graph: 6, tensors: 10, graphs: 11 } as const;
const TENSOR = { name: 8, externalData: 13 } as const;
const ENTRY = { key: 1, value: 2 } as const;

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
/** Most bytes of a tag and a length together. */
const HEADER_BYTES = 20;
const WINDOW_BYTES = 65_536;
/** Most bytes of a name. */
const TEXT_BYTES = 4_096;
/** Most nested subgraphs; deeper nesting is an attack on the stack. */
const MOST_DEPTH = 64;

/**
 * Reads an ONNX file without its weights. They are skipped, so that gigabytes cost a few reads. A protobuf library
 * would need all bytes in memory.
 *
 * @param contents of the file, if somebody has read it already.
 * @returns undefined for a file that is not ONNX, like one in the ORT format.
 * @throws Error when the file is missing, or when the system cannot answer.
 */
export async function readOnnxFile(path: string, contents?: Buffer): Promise<OnnxFile | undefined> {
  const form = await readOnnxForm(path, contents);
  return typeof form === 'string' ? undefined : form;
}

/** As {@link readOnnxFile}, and says whether no reader could take the file for ONNX. */
export async function readOnnxForm(path: string, contents?: Buffer): Promise<OnnxForm> {
  if (contents !== undefined) return parse(new Window(contents.byteLength, contents));
  const handle = await open(path);
  try {
    const { size } = await handle.stat();
    return await parse(new Window(size, Buffer.alloc(WINDOW_BYTES), handle));
  } finally {
    await handle.close();
  }
}

/** The bytes are no protobuf message. */
class Malformed extends Error {}

async function parse(window: Window): Promise<OnnxForm> {
  try {
    const reader = new ModelReader(window);
    await reader.readModel({ start: 0, end: window.size });
    const { producer, opsets, externalData, inputs, outputs, initializers } = reader;
    if (Object.keys(opsets).length === 0) return 'malformed';
    const given = inputs.filter(({ name }) => !initializers.has(name));
    return { producer, opsets, externalData: [...externalData], inputs: given, outputs };
  } catch (error) {
    if (isUnanswered(error)) throw error;
    return error instanceof Malformed ? 'malformed' : 'unknown';
  }
}

interface Span {
  readonly start: number;
  readonly end: number;
}

interface Field extends Span {
  readonly number: number;
  /** The value of a varint. */
  readonly value: number;
}

class ModelReader {
  producer = '';
  readonly opsets: Record<string, number> = {};
  readonly externalData = new Set<string>();
  readonly inputs: DeclaredValue[] = [];
  readonly outputs: DeclaredValue[] = [];
  readonly initializers = new Set<string>();
  readonly #window: Window;

  constructor(window: Window) {
    this.#window = window;
  }

  async readModel(span: Span): Promise<void> {
    for await (const field of this.#fields(span)) {
      if (field.number === MODEL.producerName) this.producer = await this.#text(field);
      else if (field.number === MODEL.opsetImport) await this.#readOpset(field);
      else if (field.number === MODEL.graph) await this.#readGraph(field, 0);
      else if (field.number === MODEL.functions) await this.#readNodesOf(field, FUNCTION.node, 0);
    }
  }

  async #readOpset(span: Span): Promise<void> {
    let domain = '';
    let version = 0;
    for await (const field of this.#fields(span)) {
      if (field.number === OPSET.domain) domain = await this.#text(field);
      else if (field.number === OPSET.version) version = field.value;
    }
    this.opsets[domain || 'ai.onnx'] = version;
  }

  async #readGraph(span: Span, depth: number): Promise<void> {
    if (depth > MOST_DEPTH) throw new Error('too many graphs within graphs');
    for await (const field of this.#fields(span)) {
      if (field.number === GRAPH.initializer) await this.#readTensor(field, depth === 0);
      else if (field.number === GRAPH.node) await this.#readNode(field, depth);
      else if (depth > 0) continue;
      else if (field.number === GRAPH.input) this.inputs.push(await this.#readValue(field));
      else if (field.number === GRAPH.output) this.outputs.push(await this.#readValue(field));
    }
  }

  async #readValue(span: Span): Promise<DeclaredValue> {
    let value: DeclaredValue = { name: '', isTensor: true, type: undefined };
    for await (const field of this.#fields(span)) {
      if (field.number === VALUE.name) value = { ...value, name: await this.#text(field) };
      else if (field.number === VALUE.type) value = { ...value, ...(await this.#readType(field)) };
    }
    return value;
  }

  async #readType(span: Span): Promise<Omit<DeclaredValue, 'name'>> {
    for await (const { number, ...field } of this.#fields(span)) {
      if (number === TYPE.tensor) return { isTensor: true, type: await this.#readElementType(field) };
      if (number === TYPE.sequence || number === TYPE.map || number === TYPE.sparse || number === TYPE.optional)
        return { isTensor: false, type: undefined };
    }
    return { isTensor: true, type: undefined };
  }

  async #readElementType(span: Span): Promise<string | undefined> {
    for await (const field of this.#fields(span))
      if (field.number === TENSOR_TYPE.element) return ELEMENTS[field.value];
    return undefined;
  }

  async #readNodesOf(span: Span, node: number, depth: number): Promise<void> {
    for await (const field of this.#fields(span)) if (field.number === node) await this.#readNode(field, depth);
  }

  async #readNode(span: Span, depth: number): Promise<void> {
    for await (const field of this.#fields(span)) {
      if (field.number !== NODE.attribute) continue;
      for await (const part of this.#fields(field)) {
        if (part.number === ATTRIBUTE.tensor || part.number === ATTRIBUTE.tensors) await this.#readTensor(part);
        else if (part.number === ATTRIBUTE.graph || part.number === ATTRIBUTE.graphs)
          await this.#readGraph(part, depth + 1);
      }
    }
  }

  async #readTensor(span: Span, isInitializer = false): Promise<void> {
    for await (const field of this.#fields(span)) {
      if (isInitializer && field.number === TENSOR.name) this.initializers.add(await this.#text(field));
      if (field.number !== TENSOR.externalData) continue;
      let key = '';
      let value = '';
      for await (const part of this.#fields(field)) {
        if (part.number === ENTRY.key) key = await this.#text(part);
        else if (part.number === ENTRY.value) value = await this.#text(part);
      }
      if (key === 'location') this.externalData.add(value);
    }
  }

  async *#fields({ start, end }: Span): AsyncGenerator<Field> {
    for (let at = start; at < end; ) {
      await this.#window.show(at, HEADER_BYTES);
      const tag = this.#window.varint(at);
      const wire = tag.value & 7;
      const number = Math.floor(tag.value / 8);
      // Space that a download has reserved is full of zeros.
      if (number === 0) throw new Malformed('no field has the number 0');
      const first =
        wire === WIRE.varint || wire === WIRE.bytes ? this.#window.varint(tag.end) : { value: 0, end: tag.end };
      if (wire === WIRE.bytes) at = first.end + first.value;
      else if (wire === WIRE.fixed64) at = tag.end + 8;
      else if (wire === WIRE.fixed32) at = tag.end + 4;
      else if (wire === WIRE.varint) at = first.end;
      else throw new Malformed(`wire type ${wire}`);
      if (at > end) throw new Malformed('a field is longer than what it is in');
      yield { number, value: first.value, start: first.end, end: at };
    }
  }

  async #text({ start, end }: Span): Promise<string> {
    if (end - start > TEXT_BYTES) throw new Error('a name is too long');
    await this.#window.show(start, end - start);
    return this.#window.text(start, end);
  }
}

/** The part of a file that is in memory. */
class Window {
  readonly size: number;
  readonly #bytes: Buffer;
  readonly #handle: FileHandle | undefined;
  #start = 0;
  #length: number;

  /** @param bytes the whole file, or without its contents yet, room for a part of it; then `handle` is needed. */
  constructor(size: number, bytes: Buffer, handle?: FileHandle) {
    this.size = size;
    this.#bytes = bytes;
    this.#handle = handle;
    this.#length = handle === undefined ? size : 0;
  }

  /** Moves the window unless it already shows these bytes, or all up to the end of the file. */
  async show(at: number, length: number): Promise<void> {
    const end = Math.min(at + length, this.size);
    if (this.#handle === undefined || (at >= this.#start && end <= this.#start + this.#length)) return;
    const { bytesRead } = await this.#handle.read(this.#bytes, 0, WINDOW_BYTES, at);
    this.#start = at;
    this.#length = bytesRead;
  }

  varint(at: number): { value: number; end: number } {
    let value = 0;
    for (let index = 0; index < 10; index += 1) {
      const offset = at + index - this.#start;
      if (offset >= this.#length) break;
      const byte = this.#bytes[offset] as number;
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return { value, end: at + index + 1 };
    }
    throw new Malformed('a number is cut short');
  }

  text(start: number, end: number): string {
    return this.#bytes.toString('utf8', start - this.#start, end - this.#start);
  }
}
