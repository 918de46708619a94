import { InfermuxError, show } from '../../common/errors.js';
import { type OnnxFile, readOnnxFile } from '../../common/files/onnx-file.js';
import { lookFailed, undefinedIfNotThere } from '../../common/files/system-errors.js';
import { clone } from '../../common/values/clone.js';
import { type Batching, batchingPolicy, whyNotBatched } from '../../contracts/batching.js';
import type { ModelMetadata } from '../../tensors/tensor.js';
import type { ModelReport } from '../model-manager-options.js';
import type { RegisteredModel } from '../registered-model.js';

/** The report on a loaded model, with its inputs and outputs, the facts in its file, and whether it is batched. */
export interface ModelInspection extends ModelReport, ModelMetadata {
  /**
   * The tool that wrote the file; undefined for the ORT format, models in memory, and files that no longer exist or are
   * not ONNX.
   */
  readonly producer: string | undefined;
  /** Version of each operator set by its domain; `ai.onnx` is ONNX itself. Undefined when `producer` is. */
  readonly opsets: Readonly<Record<string, number>> | undefined;
  /**
   * Why requests are not batched with `batching: 'auto'`, regardless of a deployment's options; undefined if they are.
   */
  readonly whyNotBatched: string | undefined;
}

/**
 * Inspects a model that was loaded. Its file is read as it is now.
 *
 * @param metadata of the model; undefined when it was removed after its load.
 * @throws InfermuxError `MODEL_NOT_FOUND` without metadata; `FAILED_PRECONDITION`, retryable, when the system cannot read
 *   the file now.
 */
export async function inspectModel(
  model: RegisteredModel,
  metadata: ModelMetadata | undefined,
  report: ModelReport,
): Promise<ModelInspection> {
  if (metadata === undefined) {
    throw new InfermuxError(
      'MODEL_NOT_FOUND',
      `model ${show(model.id)} was removed or replaced while it was inspected`,
    );
  }
  // A copy: feeds are checked against the original.
  const values = clone(metadata);
  const file = model.contents === undefined ? await readFactsOf(model) : undefined;
  const reason = whyNotByItself(metadata, model.batching);
  return { ...report, ...values, producer: file?.producer, opsets: file?.opsets, whyNotBatched: reason };
}

/** Reads the facts in the model's file; undefined when the file is gone or cannot be parsed. */
async function readFactsOf({ id, path }: RegisteredModel): Promise<OnnxFile | undefined> {
  try {
    return await readOnnxFile(path).catch(undefinedIfNotThere);
  } catch (cause) {
    throw lookFailed('FAILED_PRECONDITION', `model ${show(id)}`, cause);
  }
}

/** Why requests are not joined under the engine's default, `batching: 'auto'`. @param own the model's own setting. */
function whyNotByItself(metadata: ModelMetadata, own: Batching | undefined): string | undefined {
  const { isEnabled, isOwn } = batchingPolicy('auto', own);
  if (!isEnabled) return 'its own "batching" is false, in its model.json or in options.models';
  const reason = whyNotBatched(metadata, isOwn);
  // Someone who knows the model may know better.
  const isWorthATry = reason !== undefined && !isOwn && whyNotBatched(metadata, true) === undefined;
  return isWorthATry ? `${reason}; "batching": {} in its model.json or in options.models asks for it anyway` : reason;
}
