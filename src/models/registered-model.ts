import type { Batching } from '../contracts/batching.js';
import type { ModelFormat, ModelReference } from '../contracts/model-reference.js';

/** One version of one model, as it was found. */
export interface FoundModel extends Omit<ModelReference, 'key'> {
  readonly version: number;
  readonly format: ModelFormat;
  /** Its own setting; the engine's when undefined. */
  readonly batching?: Batching | undefined;
  readonly isPinned: boolean;
  readonly licence?: string | undefined;
  /** Another one when its files have changed. */
  readonly fingerprint: string;
}

/** One that can be asked for. Its files' next content is another one, with another key. */
export interface RegisteredModel extends FoundModel {
  readonly key: string;
}

/** `id@version`: how requests name one version of a model. */
export function nameOf({ id, version }: Pick<FoundModel, 'id' | 'version'>): string {
  return `${id}@${version}`;
}

export function formatOf(path: string): ModelFormat {
  return path.endsWith('.ort') ? 'ort' : 'onnx';
}
