import type { ModelReference } from '../../contracts/model-reference.js';
import type { ModelMetadata, Outputs, TensorFeeds } from '../../tensors/tensor.js';

/** A loaded model. */
export interface Session {
  readonly metadata: ModelMetadata;
  run(feeds: TensorFeeds, outputs: readonly string[] | undefined): Promise<Outputs>;
  release(): Promise<void>;
}

/** Loads sessions. The loader of the engine's models is `OnnxSessionLoader`, of a handler's own models `HandlerModelLoader`. */
export interface SessionLoader {
  load(model: ModelReference): Promise<Session>;
}
