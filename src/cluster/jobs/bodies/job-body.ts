import { InfermuxError } from '../../../common/errors.js';
import type { InferenceCall } from '../../../open-inference/inference-call.js';
import { doAtOnce, doInTurns } from '../../../open-inference/json/steps.js';
import { type Allocate, feedFromRaw } from '../../../open-inference/raw-tensors.js';
import { inferenceCallOf } from '../../../open-inference/rest/infer-request.js';
import {
  parseObject,
  readSmallMessage,
  readTensorMessage,
  type TensorMessage,
} from '../../../open-inference/rest/tensor-message.js';
import { fileInputs, type JobFiles } from './job-files.js';

/** JSON of more bytes is read in several turns of the event loop. */
const AT_ONCE_BYTES = 65_536;
const SMALL_BYTES = 16_384;

export interface ReadJob {
  readonly call: InferenceCall;
  /** To be called when the job has ended: it gives back what its files take. */
  release(): void;
}

/**
 * Reads the body of a job: that of an inference request over REST, whose inputs may also be in files.
 *
 * @param jsonBytes bytes of its JSON, when tensors in binary form follow it.
 * @throws InfermuxError `INVALID_ARGUMENT` naming the place, what was expected and what came.
 */
export async function readJob(
  target: string,
  body: Uint8Array,
  jsonBytes: number | undefined,
  files: JobFiles,
  allocate: Allocate,
): Promise<ReadJob> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (jsonBytes !== undefined && jsonBytes > bytes.length) {
    throw invalid(`its JSON is to have ${jsonBytes} bytes, and it has ${bytes.length}`);
  }
  const json = bytes.subarray(0, jsonBytes ?? bytes.length);
  const { message, release } = (await withFiles(json, files, allocate)) ?? {
    message: await readMessage(json, allocate),
    release: () => undefined,
  };
  try {
    takeBinary(message, bytes.subarray(json.length), allocate);
    return { call: inferenceCallOf(target, message), release };
  } catch (cause) {
    release();
    throw cause;
  }
}

function readMessage(json: Buffer, allocate: Allocate): TensorMessage | Promise<TensorMessage> {
  const small = json.length <= SMALL_BYTES ? readSmallMessage(json, 'inputs', allocate) : undefined;
  if (small !== undefined) return small;
  const steps = readTensorMessage(json, 'inputs', allocate);
  return json.length <= AT_ONCE_BYTES ? doAtOnce(steps) : doInTurns(steps);
}

/** Reads a message some of whose inputs are in files; undefined for any other. */
async function withFiles(
  json: Buffer,
  files: JobFiles,
  allocate: Allocate,
): Promise<{ message: TensorMessage; release: () => void } | undefined> {
  // Few jobs do, and to parse the JSON twice takes time.
  if (!json.includes('"file"')) return undefined;
  const fields = parseObject(json.toString());
  const found = fileInputs(fields['inputs']);
  if (found === undefined) return undefined;
  if (found.others.some(isRounded)) {
    throw invalid('integers above 2^53 beside an input in a file would be rounded: put them into a file, too');
  }
  const rest = Buffer.from(JSON.stringify({ ...fields, inputs: found.others }));
  const message = await readMessage(rest, allocate);
  const { tensors, release } = await files.read(found.files, allocate);
  return { message: { ...message, tensors: [...message.tensors, ...tensors] }, release };
}

/** Whether an input has integers that may be others than were written. */
function isRounded(input: unknown): boolean {
  const { datatype, data } = (input ?? {}) as { readonly datatype?: unknown; readonly data?: unknown };
  const hasUnsafe = (value: unknown): boolean =>
    Array.isArray(value) ? value.some(hasUnsafe) : typeof value === 'number' && !Number.isSafeInteger(value);
  return (datatype === 'INT64' || datatype === 'UINT64') && hasUnsafe(data);
}

function takeBinary({ tensors }: TensorMessage, bytes: Buffer, allocate: Allocate): void {
  const wanted = tensors.reduce((sum, { binaryBytes = 0 }) => sum + binaryBytes, 0);
  if (wanted !== bytes.length) throw invalid(`${bytes.length} bytes follow its JSON, and its tensors take ${wanted}`);
  let at = 0;
  for (const [index, tensor] of tensors.entries()) {
    if (tensor.tensor !== undefined) continue;
    const { binaryBytes = 0 } = tensor;
    tensor.tensor = feedFromRaw(`inputs[${index}]`, tensor, bytes.subarray(at, at + binaryBytes), allocate);
    at += binaryBytes;
  }
}

const invalid = (message: string) => new InfermuxError('INVALID_ARGUMENT', `the job: ${message}`);
