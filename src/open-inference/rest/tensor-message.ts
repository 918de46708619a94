import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { isPlainObject } from '../../common/values/realm.js';
import type { Tensor } from '../../tensors/tensor.js';
import { checkDatatype, checkShape } from '../datatypes.js';
import { JsonCutter, type Range } from '../json/json-cutter.js';
import { readData } from '../json/read-data.js';
import type { Steps } from '../json/steps.js';
import { type Allocate, checkRawSize, type TensorHead } from '../raw-tensors.js';
import { parseSmall, tensorOfNumbers } from './small-message.js';

/** Bytes of JSON that are cut in one step: about 0.1 ms. */
const STEP_BYTES = 65_536;
/** Most bytes of JSON beside the data. The rest is parsed in one go. */
const MOST_REST_BYTES = 2 ** 20;
/** Far more inputs than a model has. */
const MOST_TENSORS = 10_000;

/** A tensor of a request or an answer: its data are in the JSON, or follow it in binary form. */
export interface MessageTensor extends TensorHead {
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Undefined while its data are still to be received: they follow the JSON. */
  tensor: Tensor | undefined;
  /** Bytes of its binary form, if its data follow the JSON. */
  readonly binaryBytes: number | undefined;
}

/** A request or an answer as its JSON tells. */
export interface TensorMessage {
  /** The keys of the JSON. In the list of tensors an index stands for the data of each. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly tensors: readonly MessageTensor[];
}

/**
 * Reads the JSON of an inference request or of its answer.
 *
 * @param list the key of the list of tensors.
 * @param allocate makes the tensors whose data are in the JSON.
 * @throws InfermuxError `INVALID_ARGUMENT` naming the place, what was expected and what came.
 */
export function* readTensorMessage(
  bytes: Buffer,
  list: 'inputs' | 'outputs',
  allocate: Allocate,
): Steps<TensorMessage> {
  const cutter = new JsonCutter(bytes, list);
  while (!cutter.step(STEP_BYTES)) {
    if (cutter.restBytes > MOST_REST_BYTES) throw restTooLong();
    yield;
  }
  const text = cutter.rest;
  if (text.length > MOST_REST_BYTES) throw restTooLong();
  const fields = parseObject(text);
  const given = fields[list];
  if (!Array.isArray(given) || given.length > MOST_TENSORS) {
    throw invalid(`${list} must be a list of at most ${MOST_TENSORS} tensors, got ${show(given)}`);
  }
  const tensors: MessageTensor[] = [];
  for (let index = 0; index < given.length; index += 1) {
    const head = readHead(list, index, given[index]);
    tensors.push(head);
    if (head.binaryBytes !== undefined) continue;
    const range = cutter.ranges[(given[index] as { data: number }).data] as Range;
    head.tensor = yield* readData(list, index, bytes, range, head, allocate);
  }
  if (tensors.length > 1) checkNames(list, tensors);
  return { fields, tensors };
}

function checkNames(list: string, tensors: readonly MessageTensor[]): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name)) throw invalid(`${list} names ${show(name)} twice`);
    names.add(name);
  }
}

/**
 * {@link readTensorMessage} for a small text, if all its data are numbers that `JSON.parse` keeps.
 *
 * @returns undefined for any other text.
 * @throws InfermuxError as {@link readTensorMessage}.
 */
export function readSmallMessage(
  bytes: Buffer,
  list: 'inputs' | 'outputs',
  allocate: Allocate,
): TensorMessage | undefined {
  const fields = parseSmall(bytes);
  const given = fields?.[list];
  if (fields === undefined || !Array.isArray(given) || given.length > MOST_TENSORS) return undefined;
  const tensors: MessageTensor[] = [];
  for (let index = 0; index < given.length; index += 1) {
    const head = readHead(list, index, given[index]);
    tensors.push(head);
    if (head.binaryBytes !== undefined) continue;
    head.tensor = tensorOfNumbers(head.datatype, head.shape, (given[index] as { data: unknown }).data, allocate);
    if (head.tensor === undefined) return undefined;
  }
  if (tensors.length > 1) checkNames(list, tensors);
  return { fields, tensors };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a text that is no JSON object. */
export function parseObject(text: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `the body must be JSON: ${messageOf(cause)}`, { cause });
  }
  if (isPlainObject(value)) return value as Readonly<Record<string, unknown>>;
  throw invalid(`the body must be a JSON object, got ${show(value)}`);
}

/** Messages are made when something is wrong: this runs for every request. */
function readHead(list: string, index: number, given: unknown): MessageTensor {
  if (!isPlainObject(given)) {
    throw invalid(`${list}[${index}] must be a tensor { name, shape, datatype, data }, got ${show(given)}`);
  }
  const { name, shape, datatype, parameters: own, data } = given as Readonly<Record<string, unknown>>;
  if (typeof name !== 'string' || name === '') {
    throw invalid(`${list}[${index}].name must be a non-empty string, got ${show(name)}`);
  }
  const parameters = own === undefined ? NO_PARAMETERS : readParameters(`${list}[${index}]`, own);
  const { binary_data_size: binaryBytes, shared_memory_region: region } = parameters;
  const head: MessageTensor = {
    name,
    shape: checkShape(list, index, shape),
    datatype: checkDatatype(list, index, datatype),
    parameters,
    tensor: undefined,
    binaryBytes: binaryBytes as number | undefined,
  };
  if (region !== undefined)
    throw invalid(`${list}[${index}]: shared memory is not supported; send the data in the request`);
  if ((binaryBytes === undefined) === (data === undefined)) {
    const got = data === undefined ? 'neither' : 'both';
    throw invalid(`${list}[${index}] must have either data, or binary_data_size in its parameters; it has ${got}`);
  }
  if (binaryBytes === undefined) return head;
  if (!Number.isSafeInteger(binaryBytes) || (binaryBytes as number) < 0) {
    throw invalid(`${list}[${index}].parameters.binary_data_size must be a number of bytes, got ${show(binaryBytes)}`);
  }
  checkRawSize(`${list}[${index}]`, head, binaryBytes as number);
  return head;
}

const NO_PARAMETERS: Readonly<Record<string, unknown>> = Object.freeze({});

/** @throws InfermuxError `INVALID_ARGUMENT` for parameters that are no object. */
export function readParameters(where: string, given: unknown): Readonly<Record<string, unknown>> {
  if (given === undefined || given === null) return NO_PARAMETERS;
  if (isPlainObject(given)) return given as Readonly<Record<string, unknown>>;
  throw invalid(`${where}.parameters must be an object, got ${show(given)}`);
}

function restTooLong(): InfermuxError {
  return invalid(`the JSON beside the data must have at most ${MOST_REST_BYTES} bytes`);
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
