import { isHandlerKey } from '../../contracts/handler.js';
import type { ModelReference } from '../../contracts/model-reference.js';

/** Remembers which models a replica's thread was told about, so that each is defined once. */
export class ModelDefinitions {
  readonly #sent = new Set<string>();

  /** Returns the definition for a message about the model; undefined when the thread knows the model. */
  definitionFor(model: ModelReference): ModelReference | undefined {
    const { key } = model;
    // A handler's own models are defined each time: there may be any number of them.
    if (isHandlerKey(key)) return definitionOf(model);
    if (this.#sent.has(key)) return undefined;
    this.#sent.add(key);
    return definitionOf(model);
  }

  /** @returns whether the thread was told about the model. */
  forget(key: string): boolean {
    return this.#sent.delete(key);
  }
}

/** Returns the part of a model's description that the thread needs. */
export function definitionOf(model: ModelReference): ModelReference {
  const { key, id, path, bytes, format, contents, externalData, files, sha256, session, weights, warmUp, threads } =
    model;
  return { key, id, path, bytes, format, contents, externalData, files, sha256, session, weights, warmUp, threads };
}
