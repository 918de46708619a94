import { show } from '../../common/errors.js';
import { isTensorType, type ModelMetadata, type OmittedOutput, type ValueMetadata } from '../../tensors/tensor.js';

/** An input or output as a session of onnxruntime-node declares it. */
type DeclaredValue =
  | { readonly name: string; readonly isTensor: false }
  | {
      readonly name: string;
      readonly isTensor: true;
      readonly type: string;
      readonly shape: readonly (number | string)[];
    };

interface DeclaredValues {
  readonly inputMetadata: readonly DeclaredValue[];
  readonly outputMetadata: readonly DeclaredValue[];
}

/** An input or output of which the type may be unknown: then nothing speaks against it. */
interface TypedValue {
  readonly name: string;
  readonly isTensor: boolean;
  readonly type?: string | undefined;
}

interface TypedValues {
  readonly inputMetadata: readonly TypedValue[];
  readonly outputMetadata: readonly TypedValue[];
}

/**
 * Returns why a model cannot be served: every run needs all its inputs, and at least one output to return. An output that
 * is not asked for is harmless, whatever its type; a run that asks for an int4 output aborts the process.
 */
export function whyNotServed({ inputMetadata, outputMetadata }: TypedValues): string | undefined {
  const isOdd = (value: TypedValue) => whyNotCarried(value) !== undefined;
  const input = inputMetadata.find(isOdd);
  if (input !== undefined) return `input ${show(input.name)} cannot be given: ${whyNotCarried(input)}`;
  // onnxruntime-node takes a name that every object has for one that was asked for.
  const fetched = outputMetadata.find((output) => isOdd(output) && output.name in {});
  if (fetched !== undefined) return `output ${show(fetched.name)} cannot be left out: ${whyNotCarried(fetched)}`;
  if (!outputMetadata.every(isOdd)) return undefined;
  const reasons = outputMetadata.map((output) => `${show(output.name)}: ${whyNotCarried(output)}`);
  return `it has no output that can be returned: ${reasons.join('; ') || 'it has none at all'}`;
}

/** Returns why onnxruntime-node cannot carry an input or output. */
function whyNotCarried({ isTensor, type }: TypedValue): string | undefined {
  if (!isTensor) return 'it is a sequence, map or optional, and onnxruntime-node carries tensors only';
  return type === undefined || isTensorType(type)
    ? undefined
    : `it has type ${type}, which onnxruntime-node cannot carry`;
}

/** Returns the inputs and outputs that onnxruntime-node can carry, and why it cannot carry the others. */
export function readMetadata({ inputMetadata, outputMetadata }: DeclaredValues): ModelMetadata {
  const omittedOutputs: OmittedOutput[] = [];
  for (const output of outputMetadata) {
    const reason = whyNotCarried(output);
    if (reason !== undefined) omittedOutputs.push({ name: output.name, reason });
  }
  // Handlers get it, too, and must not change what the next request is checked against.
  return deepFreeze({ inputs: readValues(inputMetadata), outputs: readValues(outputMetadata), omittedOutputs });
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) if (typeof part === 'object') deepFreeze(part);
  return Object.freeze(value);
}

/** Returns the values that onnxruntime-node can carry. */
function readValues(values: readonly DeclaredValue[]): ValueMetadata[] {
  return values.flatMap((value) =>
    value.isTensor && isTensorType(value.type) ? [{ name: value.name, type: value.type, shape: [...value.shape] }] : [],
  );
}
