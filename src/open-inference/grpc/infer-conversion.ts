import { InfermuxError } from '../../common/errors.js';
import { setProperty, type Tensor } from '../../tensors/tensor.js';
import type { AnsweredTensor } from '../answer-tensors.js';
import { checkDatatype, checkShape, datatypeOf } from '../datatypes.js';
import { type InferenceCall, type Parameters, readRunParameters } from '../inference-call.js';
import { DETAILS_PARAMETER, JSON_PARAMETER } from '../own-keys.js';
import { type Allocate, feedFromRaw, rawFromTensor } from '../raw-tensors.js';
import type { AnswerHead } from '../rest/infer-answer.js';
import { checkNamedOnce, readClasses, readId } from '../rest/infer-request.js';
import type { WireRequest, WireResponse, WireTensor } from './infer-messages.js';
import { contentsOf, tensorFromContents } from './typed-contents.js';

const NO_PARAMETERS: Parameters = Object.freeze({});
const JSON_PARAMETERS: Parameters = Object.freeze({ [JSON_PARAMETER]: true });

/**
 * Makes the call that a message describes.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the place, what was expected and what came.
 */
export function inferenceCallOfMessage(target: string, request: WireRequest, allocate: Allocate): InferenceCall {
  const { inputs, raw_input_contents: raw, parameters } = request;
  const isRaw = raw.length > 0;
  if (isRaw && raw.length !== inputs.length) {
    throw invalid(`raw_input_contents must have one entry for each of the ${inputs.length} inputs, got ${raw.length}`);
  }
  const feeds: Record<string, Tensor> = {};
  for (let index = 0; index < inputs.length; index += 1) {
    const input = inputs[index] as WireTensor;
    const tensor = tensorOf(index, input, isRaw ? raw[index] : undefined, allocate);
    if (Object.hasOwn(feeds, input.name)) throw invalid(`inputs names ${JSON.stringify(input.name)} twice`);
    setProperty(feeds, input.name, tensor);
  }
  const options = readRunParameters(parameters);
  const id = readId(request.id);
  const hasDetails = parameters[DETAILS_PARAMETER] === true;
  // What was typed is answered typed. There is no such form of FP16, so the answer decides.
  const isBinary = isRaw || inputs.length === 0;
  if (request.outputs.length === 0) return { target, id, feeds, options, outputs: undefined, isBinary, hasDetails };
  const outputs = request.outputs.map(({ name, parameters: own }, index) => ({
    name,
    isBinary: undefined,
    classes: readClasses(`outputs[${index}]`, own),
  }));
  checkNamedOnce(outputs);
  return { target, id, feeds, options, outputs, isBinary, hasDetails };
}

function tensorOf(index: number, input: WireTensor, raw: Uint8Array | undefined, allocate: Allocate): Tensor {
  const { name, contents, parameters } = input;
  const where = `inputs[${index}]`;
  if (name === '') throw invalid(`${where}.name must not be empty`);
  if (parameters['shared_memory_region'] !== undefined) {
    throw invalid(`${where}: shared memory is not supported; send the data in the request`);
  }
  const head = {
    name,
    datatype: checkDatatype('inputs', index, input.datatype),
    shape: checkShape('inputs', index, input.shape),
  };
  if (raw === undefined) return tensorFromContents(where, head, contents, allocate);
  if (contents !== undefined) throw invalid(`${where} must have no contents beside raw_input_contents`);
  return feedFromRaw(where, head, raw, allocate);
}

/** Makes the message of an answer: with raw contents, or with the elements by their type if the request had them so. */
export function messageOfAnswer(
  { model, version, id, parameters }: AnswerHead,
  outputs: readonly AnsweredTensor[],
): WireResponse {
  const isRaw = outputs.length === 0 || outputs.some(({ isBinary, tensor }) => isBinary || tensor.type === 'float16');
  return {
    model_name: model,
    model_version: version,
    id: id ?? '',
    parameters: parameters ?? NO_PARAMETERS,
    outputs: outputs.map(({ name, tensor, isJson }) => {
      const datatype = datatypeOf(tensor.type);
      const contents = isRaw ? undefined : contentsOf(tensor, datatype);
      return { name, datatype, shape: tensor.dims, parameters: isJson ? JSON_PARAMETERS : NO_PARAMETERS, contents };
    }),
    raw_output_contents: isRaw ? outputs.map(({ tensor }) => rawFromTensor(tensor)) : [],
  };
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
