import { InfermuxError, show } from '../../common/errors.js';
import type { RunOptions } from '../../contracts/run-options.js';
import { setProperty, type Tensor } from '../../tensors/tensor.js';
import { type InferenceCall, type Parameters, type RequestedOutput, readRunParameters } from '../inference-call.js';
import { DETAILS_PARAMETER } from '../own-keys.js';
import { readParameters, type TensorMessage } from './tensor-message.js';

/** Says how long the JSON at the beginning of a body is, when binary tensors follow it. */
export const HEADER_LENGTH = 'inference-header-content-length';

const NO_OPTIONS: RunOptions = Object.freeze({});
const MOST_ID_CHARACTERS = 4_096;
const MOST_OUTPUTS = 10_000;

/**
 * Makes the call that a request's JSON describes.
 *
 * @param message with the data of all its tensors.
 * @throws InfermuxError `INVALID_ARGUMENT` naming the place, what was expected and what came.
 */
export function inferenceCallOf(target: string, { fields, tensors }: TensorMessage): InferenceCall {
  const own = fields['parameters'];
  const parameters = own === undefined ? undefined : readParameters('the request', own);
  const outputs = readOutputs(fields['outputs']);
  const feeds: Record<string, Tensor> = {};
  for (const { name, tensor } of tensors) setProperty(feeds, name, tensor as Tensor);
  return {
    target,
    id: readId(fields['id']),
    feeds,
    options: parameters === undefined ? NO_OPTIONS : readRunParameters(parameters),
    outputs,
    isBinary: readFlag('parameters.binary_data_output', parameters?.['binary_data_output']) ?? false,
    hasDetails: parameters?.[DETAILS_PARAMETER] === true,
  };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for an id that is no text, or too long to be repeated. */
export function readId(given: unknown): string | undefined {
  if (given === undefined || given === null || given === '') return undefined;
  if (typeof given === 'string' && given.length <= MOST_ID_CHARACTERS) return given;
  const message = `id must be a string of at most ${MOST_ID_CHARACTERS} characters, got ${show(given)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function readOutputs(given: unknown): readonly RequestedOutput[] | undefined {
  if (given === undefined || given === null) return undefined;
  if (!Array.isArray(given) || given.length > MOST_OUTPUTS) {
    throw new InfermuxError('INVALID_ARGUMENT', `outputs must be a list of outputs, got ${show(given)}`);
  }
  // An empty list asks for all, as no list does.
  if (given.length === 0) return undefined;
  const outputs = given.map((output, index) => readOutput(`outputs[${index}]`, output));
  checkNamedOnce(outputs);
  return outputs;
}

/** @throws InfermuxError `INVALID_ARGUMENT` when two outputs have the same name. */
export function checkNamedOnce(outputs: readonly RequestedOutput[]): void {
  const names = new Set(outputs.map(({ name }) => name));
  if (names.size === outputs.length) return;
  const twice = outputs.find(({ name }, index) => outputs.findIndex((other) => other.name === name) !== index);
  throw new InfermuxError('INVALID_ARGUMENT', `outputs names ${show(twice?.name)} twice`);
}

function readOutput(where: string, given: unknown): RequestedOutput {
  const { name, parameters: own } = (given ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof name !== 'string' || name === '') {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must be an output { name, parameters? }, got ${show(given)}`);
  }
  const parameters = readParameters(where, own);
  return {
    name,
    isBinary: readFlag(`${where}.parameters.binary_data`, parameters['binary_data']),
    classes: readClasses(where, parameters),
  };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for `classification` that is no number of classes. */
export function readClasses(where: string, { classification }: Parameters): number | undefined {
  const classes = typeof classification === 'bigint' ? Number(classification) : classification;
  if (classes === undefined || classes === 0) return undefined;
  if (Number.isSafeInteger(classes) && (classes as number) > 0) return classes as number;
  const message = `${where}.parameters.classification must be a number of classes, got ${show(classification)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function readFlag(where: string, given: unknown): boolean | undefined {
  if (given === undefined || typeof given === 'boolean') return given;
  throw new InfermuxError('INVALID_ARGUMENT', `${where} must be true or false, got ${show(given)}`);
}
