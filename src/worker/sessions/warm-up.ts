import { InfermuxError, messageOf, show } from '../../common/errors.js';
import type { ModelReference, WarmUpInput, WarmUpInputs } from '../../contracts/model-reference.js';
import { checkFeeds } from '../../tensors/check-feeds.js';
import {
  arrayTypeOf,
  elementsOf,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorFeeds,
  type TensorType,
} from '../../tensors/tensor.js';
import { readElements, toType } from '../../tensors/untyped-elements.js';
import type { Session } from './session.js';

/**
 * Runs the session on each of the model's warm-up inputs.
 *
 * @throws InfermuxError `MODEL_LOAD_FAILED` when an input does not fit the model or a run fails, as requests would.
 */
export async function runWarmUps(session: Session, { id, warmUp = [] }: ModelReference): Promise<void> {
  for (const [index, inputs] of warmUp.entries()) {
    try {
      const feeds = toFeeds(inputs, session);
      checkFeeds(id, feeds, session.metadata.inputs);
      await session.run(feeds, undefined);
    } catch (cause) {
      // A thread that is told to stop says nothing about the model.
      if (cause instanceof InfermuxError && cause.code === 'REPLICA_FAILED') throw cause;
      const message = `model ${show(id)}: warm-up run ${index + 1} failed: ${messageOf(cause)}`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause });
    }
  }
}

function toFeeds(inputs: WarmUpInputs, { metadata }: Session): TensorFeeds {
  const feeds: Record<string, Tensor> = {};
  for (const [name, input] of Object.entries(inputs)) {
    const declared = metadata.inputs.find((value) => value.name === name)?.type ?? 'float32';
    setProperty(feeds, name, toTensor(name, input, input.type ?? (declared as TensorType)));
  }
  return feeds;
}

function toTensor(name: string, { dims, data }: WarmUpInput, type: TensorType): Tensor {
  const where = `input ${show(name)}`;
  const elements = elementsOf(dims);
  if (data !== undefined && data.length !== elements) {
    throw new Error(`${where} has dims for ${elements} elements, and data has ${data.length}`);
  }
  return { type, dims, data: toData(where, type, elements, data) } as Tensor;
}

/** JSON holds integers above 2^53 exactly only as text. */
function toData(where: string, type: TensorType, elements: number, data: WarmUpInput['data']): TensorData {
  if (type === 'string') return data?.map(String) ?? new Array<string>(elements).fill('');
  if (data === undefined) return new (arrayTypeOf(type))(elements);
  return toType(where, type, readElements(where, isBig(type) ? integersIn(where, type, data) : data));
}

function isBig(type: TensorType): boolean {
  return type === 'int64' || type === 'uint64';
}

/** Returns all as bigints if one is text. */
function integersIn(
  where: string,
  type: TensorType,
  data: NonNullable<WarmUpInput['data']>,
): readonly (bigint | number | boolean | string)[] {
  if (!data.some((element) => typeof element === 'string')) return data;
  return data.map((element) => {
    const isInteger = typeof element === 'string' ? /^-?\d+$/.test(element) : Number.isInteger(Number(element));
    if (!isInteger) throw new Error(`${where}: ${show(element)} is no ${type}`);
    return BigInt(element);
  });
}
