import type { ModelReference, SessionWeights } from '../../contracts/model-reference.js';
import type { ModelMetadata, Outputs, TensorFeeds } from '../../tensors/tensor.js';

/** A loaded model. */
export interface Session {
  readonly metadata: ModelMetadata;
  /** Default: private. */
  readonly weights?: SessionWeights;
  /** Bytes that it counts for. Default: those of the model's files. */
  readonly bytes?: number;
  /** Milliseconds of its load that another load of the model does not take. */
  readonly preparationMs?: number;
  run(feeds: TensorFeeds, outputs: readonly string[] | undefined): Promise<Outputs>;
  release(): Promise<void>;
}

/** Loads sessions: `OnnxSessionLoader` those of the engine's models, `HandlerModelLoader` those of a handler's own. */
export interface SessionLoader {
  /** Whether the model may be loaded although the replica is full, so that another one has to leave only if that succeeds. */
  mayLoadBeside(model: ModelReference): boolean;
  /** Checks what can be known of the model without a load. @throws InfermuxError `MODEL_LOAD_FAILED`. */
  check(model: ModelReference): Promise<void>;
  load(model: ModelReference): Promise<Session>;
  /** Loads the model with shared weights if they were prepared since {@link load}; undefined otherwise. */
  loadShared(model: ModelReference): Promise<Session | undefined>;
}
