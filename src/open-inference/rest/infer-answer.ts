import { InfermuxError, show } from '../../common/errors.js';
import type { Tensor } from '../../tensors/tensor.js';
import type { AnsweredTensor } from '../answer-tensors.js';
import { datatypeOf } from '../datatypes.js';
import type { Steps } from '../json/steps.js';
import { JSON_PARAMETER } from '../own-keys.js';
import { rawFromTensor } from '../raw-tensors.js';

/** How numbers that JSON does not have are written: as Triton writes them, as `null`, or as an error. */
export type NonFinite = 'literal' | 'null' | 'error';

/** The body of an answer: a short text, or parts. */
export interface AnswerBody {
  /** All of it, if it is short. Node sends a text together with the headers. */
  readonly text: string | undefined;
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
  /** Bytes of the JSON; undefined when all is JSON. */
  readonly jsonBytes: number | undefined;
}

/** What an answer says beside its outputs. */
export interface AnswerHead {
  readonly model: string;
  readonly version: string;
  readonly id: string | undefined;
  /** Details of the run, if the request asks for them. */
  readonly parameters: Readonly<Record<string, string | number>> | undefined;
}

/** Elements that are written in one step: about 0.3 ms. */
const STEP_ELEMENTS = 2_048;

/** Elements of an answer that is written in one go. */
const MOST_AT_ONCE = 2_048;

/**
 * Writes an answer that is all JSON and short.
 *
 * @returns undefined for any other.
 * @throws InfermuxError `INVALID_ARGUMENT` for an output that has no JSON form.
 */
export function writeShortAnswer(
  head: AnswerHead,
  outputs: readonly AnsweredTensor[],
  nonFinite: NonFinite,
): AnswerBody | undefined {
  let elements = 0;
  for (const { isBinary, tensor } of outputs) elements += isBinary ? MOST_AT_ONCE : tensor.data.length;
  if (elements >= MOST_AT_ONCE) return undefined;
  let text = headText(head);
  for (let index = 0; index < outputs.length; index += 1) {
    const { name, tensor, isJson } = outputs[index] as AnsweredTensor;
    text += outputText(index, name, tensor);
    if (isJson) text += `"parameters":{"${JSON_PARAMETER}":true},`;
    text += `"data":[${elementsText(name, tensor, 0, tensor.data.length, nonFinite)}]}`;
  }
  text += ']}';
  return { text, parts: NO_PARTS, bytes: text.length, jsonBytes: undefined };
}

const NO_PARTS: readonly Uint8Array[] = [];

/**
 * Writes the answer to a request.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for an output that has no JSON form.
 */
export function* writeAnswer(
  head: AnswerHead,
  outputs: readonly AnsweredTensor[],
  nonFinite: NonFinite,
): Steps<AnswerBody> {
  let text = headText(head);
  const parts: Uint8Array[] = [];
  const raw: Uint8Array[] = [];
  for (const [index, { name, tensor, isBinary, isJson }] of outputs.entries()) {
    text += outputText(index, name, tensor);
    if (isBinary) {
      const bytes = rawFromTensor(tensor);
      raw.push(bytes);
      const more = isJson ? `,"${JSON_PARAMETER}":true` : '';
      text += `"parameters":{"binary_data_size":${bytes.byteLength}${more}}}`;
      continue;
    }
    if (isJson) text += `"parameters":{"${JSON_PARAMETER}":true},`;
    text += '"data":[';
    const { length } = tensor.data;
    for (let start = 0; start < length; start += STEP_ELEMENTS) {
      if (start > 0) {
        parts.push(Buffer.from(`${text},`));
        text = '';
        yield;
      }
      text += elementsText(name, tensor, start, Math.min(start + STEP_ELEMENTS, length), nonFinite);
    }
    text += ']}';
  }
  parts.push(Buffer.from(`${text}]}`));
  const jsonBytes = bytesOf(parts);
  if (raw.length === 0) return { text: undefined, parts, bytes: jsonBytes, jsonBytes: undefined };
  return { text: undefined, parts: [...parts, ...raw], bytes: jsonBytes + bytesOf(raw), jsonBytes };
}

function headText({ model, version, id, parameters }: AnswerHead): string {
  let text = `{"model_name":${JSON.stringify(model)},"model_version":${JSON.stringify(version)}`;
  if (id !== undefined) text += `,"id":${JSON.stringify(id)}`;
  if (parameters !== undefined) text += `,"parameters":${JSON.stringify(parameters)}`;
  return `${text},"outputs":[`;
}

function outputText(index: number, name: string, { type, dims }: Tensor): string {
  const separator = index === 0 ? '' : ',';
  return `${separator}{"name":${JSON.stringify(name)},"datatype":"${datatypeOf(type)}","shape":[${dims}],`;
}

function bytesOf(parts: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const part of parts) bytes += part.byteLength;
  return bytes;
}

/** The elements from `start` on, with commas between. */
function elementsText(name: string, tensor: Tensor, start: number, end: number, nonFinite: NonFinite): string {
  const { type, data } = tensor;
  if (type === 'float16') {
    const message = `output ${show(name)} is FP16, which has no JSON form: ask for it with binary_data`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (type === 'string')
    return data
      .slice(start, end)
      .map((text) => JSON.stringify(text))
      .join(',');
  if (type === 'bool') return Array.from(data.subarray(start, end), (byte) => byte !== 0).join(',');
  const isFloat = type === 'float32' || type === 'float64';
  let text = '';
  for (let index = start; index < end; index += 1) {
    if (index > start) text += ',';
    const value = data[index] as number | bigint;
    if (isFloat && nonFinite !== 'literal' && !Number.isFinite(value)) text += withoutLiteral(name, value, nonFinite);
    else text += Object.is(value, -0) ? '-0.0' : value;
  }
  return text;
}

function withoutLiteral(name: string, value: number | bigint, nonFinite: NonFinite): string {
  if (nonFinite === 'null') return 'null';
  const message = `output ${show(name)} has ${value}, which JSON does not have: ask for it with binary_data`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
