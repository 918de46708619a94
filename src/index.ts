export type { Batching, BatchingOptions } from './batching.js';
export {
  type CloseOptions,
  createEngine,
  type InferenceEngine,
  type InferenceRequest,
  type InferenceResult,
  type InferenceTimings,
} from './engine.js';
export { ERROR_CODES, type ErrorCode, InfermuxError } from './errors.js';
export type { ModelSource } from './models/model-repository.js';
export type { EngineOptions, ExecutionProvider, SessionOptions } from './options.js';
export type { RunOptions } from './run-options.js';
export type { DeploymentStatus, EngineState, EngineStatus, ModelStatus, ReplicaStatus } from './status.js';
export type { Feeds, Outputs, Tensor, TensorData, TensorInput, TensorOf, TensorType } from './tensor.js';
