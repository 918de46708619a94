import type { Batching } from '../contracts/batching.js';
import type { ModelFormat, ModelReference } from '../contracts/model-reference.js';

/** One version of one model, as it was found in a directory or in the options. */
export interface FoundModel extends Omit<ModelReference, 'key'> {
  readonly version: number;
  readonly format: ModelFormat;
  /** The model's own setting; undefined: the engine's. */
  readonly batching?: Batching | undefined;
  readonly isPinned: boolean;
  readonly licence?: string | undefined;
  /** Whether a finder has found it, and could find it again. */
  readonly isFound?: boolean | undefined;
  /** Changes when the files of the model change. */
  readonly fingerprint: string;
  /** Tells apart sources of the same files, or of no files, that were registered under one name. */
  readonly mark?: string | undefined;
}

/** A found model with its key. When its files change, they are another registered model with another key. */
export interface RegisteredModel extends FoundModel {
  readonly key: string;
}

/** `id@version`: the name of one version in requests. */
export function nameOf({ id, version }: Pick<FoundModel, 'id' | 'version'>): string {
  return `${id}@${version}`;
}

export function formatOf(path: string): ModelFormat {
  return path.endsWith('.ort') ? 'ort' : 'onnx';
}
