/// <reference types="node" preserve="true" />
/**
 * The engine.
 *
 * @module infermux
 */
export { ERROR_CODES, type ErrorCode, InfermuxError } from './common/errors.js';
export type { Batching, BatchingOptions } from './contracts/batching.js';
export type { EvictionName, UnloadReason } from './contracts/eviction.js';
export type {
  Handler,
  HandlerContext,
  HandlerEngine,
  HandlerModel,
  LogFields,
  NestedRunOptions,
  RequestTerms,
} from './contracts/handler.js';
export type { Isolation, ProcessIsolation, ResolvedIsolation, ResolvedProcesses } from './contracts/isolation.js';
export type { EngineLogger, LoggedFields } from './contracts/logger.js';
export type {
  ModelFormat,
  SessionWeights,
  WarmUpInput,
  WarmUpInputs,
  WeightPlacement,
} from './contracts/model-reference.js';
export type {
  ModelState,
  Order,
  PendingRequestView,
  ReplicaView,
  RequestHints,
  RequestOutcome,
  RequestRouter,
  RouterModule,
  RouterName,
  RoutingStats,
} from './contracts/request-router.js';
export type { ModelRequest, ModelRunOptions, RunOptions } from './contracts/run-options.js';
export type { ExecutionProvider, SessionOptions } from './contracts/session-settings.js';
export type { TraceContext } from './contracts/trace-context.js';
export type { AutoscalingOptions, ResolvedAutoscaling } from './deployments/autoscaling/autoscaler.js';
export type {
  DeploymentOptions,
  HandlerTimeoutOptions,
  HealthCheckOptions,
  Labels,
  ResolvedDeploymentOptions,
  ResourceOptions,
  RollingUpdateOptions,
  RoutingStatsOptions,
} from './deployments/config/deployment-options.js';
export type { DeploymentReport } from './deployments/deployment-report.js';
export type { DeploymentState } from './deployments/deployment-state.js';
export type { DeleteOptions, Deployments } from './deployments/deployments.js';
export type { GoalReport, Goals } from './deployments/goal-register.js';
export type { Goal, GoalStatus } from './deployments/goals.js';
export type { EndpointReport, Endpoints } from './endpoints/endpoints.js';
export type { EndpointOptions } from './endpoints/traffic.js';
export { createEngine } from './engine/create-engine.js';
export type { InferenceEngine } from './engine/engine.js';
export type {
  CheckpointOptions,
  CloseOptions,
  EngineOptions,
  MetricsOptions,
  ModelCacheSettings,
  Overcommit,
  WeightStoreOptions,
} from './engine/engine-options.js';
export type { AnswerStream } from './engine/requests/handler-stream.js';
export type { InferenceResult, InferenceTimings } from './engine/requests/inference-result.js';
export type { InferenceRequest } from './engine/requests/run-options.js';
export type {
  DeploymentStatus,
  EngineState,
  EngineStatus,
  ModelStatus,
  ReplicaState,
  ReplicaStatus,
  SessionStatus,
} from './engine/status.js';
export type { AppliedChange, ApplyOptions, ApplyReport, WantedState } from './engine/wanted/wanted-state.js';
export type { SignedRequest, SignRequest } from './models/cache/remote-file.js';
export type { ModelFiles } from './models/deployer/deployed-files.js';
export type { DescribedSource, FindTerms, FoundSource, ModelFinder } from './models/finder/finder.js';
export { type HttpFinderOptions, httpFinder } from './models/finder/http-finder.js';
export type { ModelManager } from './models/model-manager.js';
export type {
  DeployOptions,
  LoadOptions,
  ModelReport,
  RepositoryOptions,
  SyncOptions,
} from './models/model-manager-options.js';
export type { ReplicaModelState } from './models/reports/load-records.js';
export type { ModelInspection } from './models/reports/model-inspection.js';
export type { SyncReport } from './models/repository/repository-sync.js';
export type { Manifest, ModelSettings, VersionPolicy } from './models/sources/manifest.js';
export { type ModelSource, readModelSource } from './models/sources/model-sources.js';
export { readTritonConfig, type TritonConfig } from './models/sources/triton/triton-config.js';
export type { EngineEventName, EngineEvents } from './observability/engine-events.js';
export type { InferTrace, LoadTrace, RunTrace } from './observability/traces/operations.js';
export type { HarmfulModel } from './routing/bars/run-bars.js';
export type { ReplicaWork } from './routing/batches/given-dispatches.js';
export {
  chooseTwo,
  rankReplicasViaLocality,
  rankReplicasViaMultiplex,
  selectAvailableReplicas,
} from './routing/routers/ranks.js';
export type { NumericType } from './tensors/memory/allocated-tensors.js';
export type { AnyModels, FeedOf, ModelTypes } from './tensors/model-types.js';
export type {
  Feeds,
  ModelMetadata,
  OmittedOutput,
  Outputs,
  Tensor,
  TensorData,
  TensorInput,
  TensorOf,
  TensorType,
  ValueMetadata,
} from './tensors/tensor.js';
