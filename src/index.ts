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
export type { WarmUpInput, WarmUpInputs, WeightPlacement } from './model-reference.js';
export type { ModelFiles } from './models/deployed-files.js';
export type { ReplicaModelState } from './models/load-records.js';
export type { Manifest, VersionPolicy } from './models/manifest.js';
export type { ModelManager } from './models/model-manager.js';
export type { LoadOptions, ModelReport, RepositoryOptions, SyncOptions } from './models/model-manager-options.js';
export type { ModelSource } from './models/model-sources.js';
export type { SyncReport } from './models/repository-sync.js';
export type { EngineOptions, ExecutionProvider, SessionOptions, WeightStoreOptions } from './options.js';
export type { RunOptions } from './run-options.js';
export type { DeploymentStatus, EngineState, EngineStatus, ModelStatus, ReplicaStatus } from './status.js';
export type { Feeds, Outputs, Tensor, TensorData, TensorInput, TensorOf, TensorType } from './tensor.js';
