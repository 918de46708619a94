export type { Batching, BatchingOptions } from './batching.js';
export type { AutoscalingOptions, ResolvedAutoscaling } from './deployments/autoscaler.js';
export type { DeploymentState } from './deployments/deployment.js';
export type {
  DeploymentOptions,
  HealthCheckOptions,
  Labels,
  ResolvedDeploymentOptions,
  RollingUpdateOptions,
  RoutingStatsOptions,
} from './deployments/deployment-options.js';
export type { DeploymentReport } from './deployments/deployment-report.js';
export type { DeleteOptions, Deployments } from './deployments/deployments.js';
export type { Goal, GoalStatus } from './deployments/goals.js';
export type { EndpointReport, Endpoints } from './endpoints/endpoints.js';
export type { EndpointOptions } from './endpoints/traffic.js';
export {
  type CloseOptions,
  createEngine,
  type InferenceEngine,
  type InferenceRequest,
  type InferenceResult,
  type InferenceTimings,
} from './engine.js';
export { ERROR_CODES, type ErrorCode, InfermuxError } from './errors.js';
export type { EvictionName } from './eviction.js';
export type { Handler, HandlerContext, HandlerModel, LogFields } from './handler.js';
export type { WarmUpInput, WarmUpInputs, WeightPlacement } from './model-reference.js';
export type { ModelFiles } from './models/deployed-files.js';
export type { ReplicaModelState } from './models/load-records.js';
export type { Manifest, VersionPolicy } from './models/manifest.js';
export type { ModelManager } from './models/model-manager.js';
export type { LoadOptions, ModelReport, RepositoryOptions, SyncOptions } from './models/model-manager-options.js';
export type { ModelSource } from './models/model-sources.js';
export type { SyncReport } from './models/repository-sync.js';
export type { CheckpointOptions, EngineOptions, WeightStoreOptions } from './options.js';
export type {
  ModelState,
  Order,
  PendingRequestView,
  ReplicaView,
  RequestRouter,
  RouterName,
  RoutingStats,
} from './request-router.js';
export {
  chooseTwo,
  rankReplicasViaLocality,
  rankReplicasViaMultiplex,
  selectAvailableReplicas,
} from './routing/ranks.js';
export type { RunOptions } from './run-options.js';
export type { ExecutionProvider, SessionOptions } from './session-settings.js';
export type { DeploymentStatus, EngineState, EngineStatus, ModelStatus, ReplicaStatus } from './status.js';
export type { Feeds, Outputs, Tensor, TensorData, TensorInput, TensorOf, TensorType, ValueMetadata } from './tensor.js';
