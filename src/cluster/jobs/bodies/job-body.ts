import { InfermuxError } from '../../../common/errors.js';
import type { InferenceCall } from '../../../open-inference/inference-call.js';
import { doAtOnce, doInTurns } from '../../../open-inference/json/steps.js';
import { type Allocate, feedFromRaw } from '../../../open-inference/raw-tensors.js';
import { inferenceCallOf } from '../../../open-inference/rest/infer-request.js';
import {
  type MessageTensor,
  parseObject,
  readSmallMessage,
  readTensorMessage,
  type TensorMessage,
} from '../../../open-inference/rest/tensor-message.js';
import { fileInputs, type JobFiles } from './job-files.js';

/** JSON of more bytes is read in several turns of the event loop. */
const AT_ONCE_BYTES = 65_536;
const SMALL_BYTES = 16_384;

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
): Promise<InferenceCall> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (jsonBytes !== undefined && jsonBytes > bytes.length) {
    throw invalid(`its JSON is to have ${jsonBytes} bytes, and it has ${bytes.length}`);
  }
  const json = bytes.subarray(0, jsonBytes ?? bytes.length);
  const message = (await withFiles(json, files, allocate)) ?? (await readMessage(json, allocate));
  takeBinary(message, bytes.subarray(json.length), allocate);
  return inferenceCallOf(target, message);
}

function readMessage(json: Buffer, allocate: Allocate): TensorMessage | Promise<TensorMessage> {
  const small = json.length <= SMALL_BYTES ? readSmallMessage(json, 'inputs', allocate) : undefined;
  if (small !== undefined) return small;
  const steps = readTensorMessage(json, 'inputs', allocate);
  return json.length <= AT_ONCE_BYTES ? doAtOnce(steps) : doInTurns(steps);
}

/** Reads a message some of whose inputs are in files; undefined for any other. */
async function withFiles(json: Buffer, files: JobFiles, allocate: Allocate): Promise<TensorMessage | undefined> {
  // Few jobs do, and to parse the JSON twice takes time.
  if (!json.includes('"file"')) return undefined;
  const fields = parseObject(json.toString());
  const found = fileInputs(fields['inputs']);
  if (found === undefined) return undefined;
  const rest = Buffer.from(JSON.stringify({ ...fields, inputs: found.others }));
  const message = await readMessage(rest, allocate);
  const read = await Promise.all(found.files.map((file) => files.read(file, allocate)));
  return { ...message, tensors: [...message.tensors, ...read] };
}

function takeBinary({ tensors }: TensorMessage, bytes: Buffer, allocate: Allocate): void {
  const wanted = tensors.reduce((sum, { binaryBytes = 0 }) => sum + binaryBytes, 0);
  if (wanted !== bytes.length) throw invalid(`${bytes.length} bytes follow its JSON, and its tensors take ${wanted}`);
  let at = 0;
  for (const [index, tensor] of tensors.entries()) {
    if (tensor.tensor !== undefined) continue;
    const { binaryBytes = 0 } = tensor;
    tensor.tensor = readBinary(`inputs[${index}]`, tensor, bytes.subarray(at, at + binaryBytes), allocate);
    at += binaryBytes;
  }
}

const readBinary = (where: string, head: MessageTensor, bytes: Uint8Array, allocate: Allocate) =>
  feedFromRaw(where, head, bytes, allocate);

const invalid = (message: string) => new InfermuxError('INVALID_ARGUMENT', `the job: ${message}`);
