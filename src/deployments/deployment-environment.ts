import type { InfermuxError } from '../common/errors.js';
import type { Replica } from '../replicas/replica.js';
import type { ReplicaMemory } from '../replicas/replica-memory.js';
import type { ReplicaPoolEnvironment, ReplicaPoolObserver } from '../replicas/replica-pool.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { withRouter } from './config/router-module.js';

/** The queue of a deployment's requests, as the deployment sees it. */
export interface DeploymentQueue {
  addReplica(replica: Replica): void;
  removeReplica(replica: Replica, crash?: InfermuxError): void;
  modelChanged(replica: Replica, modelKey: string): void;
  /** No replica can be started at present. */
  declareOutage(error: InfermuxError): void;
  /** A replica may start again. */
  endOutage(): void;
  /** Why no replica runs, if none can be started. */
  readonly outage: InfermuxError | undefined;
  configure(options: ReturnType<typeof withRouter>): void;
  /** Pending requests. */
  readonly queued: number;
  /** Whether every accepted request is answered. */
  readonly isIdle: boolean;
  /** Whether requests for the model are pending, or came a short while ago. */
  isInUse(modelKey: string): boolean;
  /** Refuses new requests; accepted ones go on. */
  close(refusal: InfermuxError): void;
  /** Refuses new requests and rejects all accepted ones. */
  destroy(error: InfermuxError): void;
  untilIdle(): Promise<void>;
}

/** Is told of what happens in a deployment. */
export interface DeploymentObserver extends Pick<ReplicaPoolObserver, 'event' | 'stateChanged'> {
  running(replica: Replica): void;
  /** @param crash why the replica died or was given up, if it did. */
  removed(replica: Replica, crash: InfermuxError | undefined): void;
  /** A replica with this handler, the URL of a module, is about to start. */
  handlerUsed(handler: string): void;
  restarting(replica: string, error: InfermuxError, delayMs: number): void;
  outage(error: InfermuxError): void;
  /** The target number of replicas changed, by an update or by autoscaling. */
  scaled(from: number, to: number): void;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** The surroundings of a deployment. */
export interface DeploymentEnvironment<Q extends DeploymentQueue = DeploymentQueue> {
  readonly queue: Q;
  readonly memory: ReplicaMemory;
  readonly pool: ReplicaPoolEnvironment;
  readonly weightStore: { readonly directory: string; readonly maxBytes: number };
  readonly observer: DeploymentObserver;
  /** How many of the replicas that autoscaling wants there may be. */
  fitting(options: ResolvedDeploymentOptions, from: number, to: number): number;
  /** Why no replica can be started for a request, as things are now. */
  refusalOf(options: ResolvedDeploymentOptions, from: number, to: number): InfermuxError | undefined;
  /** Id of its first goal; undefined: another one. */
  readonly goalId?: string | undefined;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}
