export {
  type CloseOptions,
  createEngine,
  type DeploymentStatus,
  type EngineState,
  type EngineStatus,
  type InferenceEngine,
  type InferenceRequest,
  type InferenceResult,
  type InferenceTimings,
  type ModelStatus,
  type ReplicaStatus,
} from './engine.js';
export { ERROR_CODES, type ErrorCode, InfermuxError } from './errors.js';
export type { ModelSource } from './models/model-repository.js';
export type { EngineOptions, ExecutionProvider, SessionOptions } from './options.js';
export type { RunOptions } from './run-options.js';
export type { Feeds, Outputs, Tensor, TensorData, TensorInput, TensorType } from './tensor.js';
