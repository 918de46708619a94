import { InfermuxError, show } from '../common/errors.js';
import type { Feeds, InferenceEngine, Tensor, TensorInput } from '../index.js';
import { fromFloat16 } from '../tensors/float16.js';
import { arrayTypeOf, isTensorType } from '../tensors/tensor.js';
import type { ModelDescription, TrialInput, TrialOutput, TrialRequest, TrialResult } from './messages.js';

/** Elements of an output that the page shows. */
const MOST_ELEMENTS = 1_000;
const MOST_TOP = 5;
/** A request of the form must not hold up others for ever. */
const TIMEOUT_MS = 60_000;

/** Describes a model for its page; loads it, if that is needed to know its inputs and outputs. */
export async function describeModel(engine: InferenceEngine, id: string): Promise<ModelDescription> {
  const { version, bytes, licence, inputs, outputs, whyNotBatched } = await engine.models.inspect(id);
  return { id, version, bytes, licence, whyNotBatched, inputs, outputs };
}

/**
 * Runs a request of the form.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for what is no such request; as `engine.infer`.
 */
export async function tryModel(engine: InferenceEngine, text: string, signal: AbortSignal): Promise<TrialResult> {
  const { target, inputs } = readTrial(text);
  const feeds: Feeds = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, feedOf(name, input)]));
  const result = await engine.infer({ target, feeds, signal, timeoutMs: TIMEOUT_MS });
  const { replica, batchSize, timings } = result;
  const outputs = Object.entries(result.outputs).map(([name, tensor]) => [name, outputOf(tensor)]);
  return { outputs: Object.fromEntries(outputs), replica, batchSize, timings };
}

function readTrial(text: string): TrialRequest {
  const wanted = 'the request must be JSON like { "target": "model", "inputs": { "x": { "type", "dims", "data" } } }';
  let given: Partial<TrialRequest> | null;
  try {
    given = JSON.parse(text) as Partial<TrialRequest> | null;
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', wanted, { cause });
  }
  const { target, inputs } = given ?? {};
  const isRight = typeof target === 'string' && inputs !== null && typeof inputs === 'object';
  if (!isRight || Object.values(inputs).some((input) => input === null || typeof input !== 'object'))
    throw new InfermuxError('INVALID_ARGUMENT', wanted);
  return { target, inputs };
}

function feedOf(name: string, { type, dims, ...elements }: TrialInput): TensorInput {
  if (!isTensorType(type))
    throw new InfermuxError('INVALID_ARGUMENT', `input ${JSON.stringify(name)} has no such type`);
  if (!('base64' in elements)) {
    if (!Array.isArray(elements.data))
      throw new InfermuxError('INVALID_ARGUMENT', `input ${JSON.stringify(name)} needs data, a list of elements`);
    const isLarge = type === 'int64' || type === 'uint64';
    const data = isLarge ? elements.data.map((element) => readInteger(name, element)) : elements.data;
    return { type, dims, data: data as TensorInput['data'] };
  }
  const bytes = Uint8Array.from(Buffer.from(String(elements.base64), 'base64'));
  if (type === 'string') throw new InfermuxError('INVALID_ARGUMENT', 'strings come as a list, not as bytes');
  const arrayType = arrayTypeOf(type);
  const length = Math.floor(bytes.length / arrayType.BYTES_PER_ELEMENT);
  return { type, dims, data: new arrayType(bytes.buffer, 0, length) };
}

/** Numbers beyond 2^53 come as text. */
function readInteger(name: string, element: unknown): bigint {
  if (/^-?\d{1,20}$/.test(String(element))) return BigInt(String(element));
  throw new InfermuxError('INVALID_ARGUMENT', `input ${JSON.stringify(name)} must have integers, got ${show(element)}`);
}

function outputOf(tensor: Tensor): TrialOutput {
  const { type, dims, data } = tensor;
  const shown = Array.from({ length: Math.min(data.length, MOST_ELEMENTS) }, (_, index) =>
    String(elementAt(tensor, index)),
  );
  return { type, dims, data: shown, length: data.length, top: topOf(tensor) };
}

/** A float16 is kept as its bits. */
function elementAt({ type, data }: Tensor, index: number): Tensor['data'][number] | undefined {
  const element = data[index];
  return type === 'float16' ? fromFloat16(element as number) : element;
}

/** The largest numbers of the first row. */
function topOf(tensor: Tensor): TrialOutput['top'] {
  const { type, dims, data } = tensor;
  const width = dims.at(-1) ?? 0;
  if (dims.length > 2 || width < 2 || type === 'string') return [];
  const row = Array.from({ length: Math.min(width, data.length) }, (_, index) => ({
    index,
    value: Number(elementAt(tensor, index)),
  }));
  const numbers = row.filter(({ value }) => Number.isFinite(value));
  return numbers.sort((left, right) => right.value - left.value).slice(0, MOST_TOP);
}
