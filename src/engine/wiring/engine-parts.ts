import { type InfermuxError, messageOf } from '../../common/errors.js';
import type { RunOptions } from '../../contracts/run-options.js';
import { machineCapacity } from '../../deployments/capacity.js';
import type { Checkpoint } from '../../deployments/checkpoint/checkpoint.js';
import { DEFAULT_DEPLOYMENT } from '../../deployments/config/deployment-name.js';
import type { ResolvedDeploymentOptions } from '../../deployments/config/deployment-options.js';
import { MAX_REPLICAS } from '../../deployments/config/resolve-deployment.js';
import { Deployments } from '../../deployments/deployments.js';
import { Endpoints } from '../../endpoints/endpoints.js';
import { ManagedModels } from '../../models/managed-models.js';
import { ModelCatalog } from '../../models/model-catalog.js';
import { ModelManager } from '../../models/model-manager.js';
import type { ModelReplicas } from '../../models/model-replicas.js';
import { EventHub } from '../../observability/engine-events.js';
import { EngineMetrics } from '../../observability/engine-metrics.js';
import { Log } from '../../observability/log.js';
import type { Replica } from '../../replicas/replica.js';
import { ReplicaMemory } from '../../replicas/replica-memory.js';
import type { ReplicaPoolEnvironment } from '../../replicas/replica-pool.js';
import { WeightSharing } from '../../replicas/sharing/weight-sharing.js';
import { PooledThread } from '../../replicas/threads/pooled-thread.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import { isSought, type RequestStream } from '../../routing/pending-request.js';
import { Slabs } from '../../tensors/memory/slabs.js';
import { EngineCheckpoint } from '../engine-checkpoint.js';
import { KeepAlive } from '../keep-alive.js';
import { defaultReplicas, type ResolvedOptions } from '../options.js';
import { CapacityWaits, type Submit } from '../requests/capacity-waits.js';
import { type ResultReader, toNothing, toOutputs } from '../requests/inference-result.js';
import { NestedRequests } from '../requests/nested-requests.js';
import { ALONE, RequestIntake, type RequestScope } from '../requests/request-intake.js';
import { Targets } from '../requests/targets.js';
import { isInferTraced, tracedRequest } from '../requests/traced-request.js';
import { CapacityCheck } from './capacity-check.js';
import { deployedReplicas, replicasWithSessions } from './deployed-replicas.js';
import { DeploymentFactory } from './deployment-factory.js';
import { metricsSource } from './metrics-source.js';
import { OtherWritersLog } from './other-writers-log.js';
import { ReplicaEvents } from './replica-events.js';

/** Longest target that an event repeats. */
const MOST_OF_TARGET = 500;

/** Creates the layers of one engine, and gives each the others that it needs. */
export class EngineParts {
  readonly keepAlive = new KeepAlive();
  readonly slabs: Slabs;
  readonly sharing: WeightSharing;
  readonly log: Log;
  readonly events: EventHub;
  readonly others: OtherWritersLog;
  readonly metrics: EngineMetrics;
  readonly checkpoint: EngineCheckpoint;
  readonly catalog: ModelCatalog;
  readonly managed: ManagedModels;
  readonly models: ModelManager;
  readonly deployments: Deployments<Dispatcher<Replica>>;
  readonly endpoints: Endpoints;
  readonly targets: Targets;
  readonly #options: ResolvedOptions;
  readonly #environment: ReplicaPoolEnvironment;
  /** Twice the replicas, and an express replica: one that is ending still uses its line of the counters. */
  readonly #memory = new ReplicaMemory(2 * (MAX_REPLICAS + 1));
  readonly intake: RequestIntake;
  readonly capacity: CapacityCheck;
  /** Requests that nobody can take yet. */
  readonly waits: CapacityWaits;
  readonly nestedRequests: NestedRequests;
  readonly #replicaEvents: ReplicaEvents;

  constructor(options: ResolvedOptions, checkpoint: Checkpoint | undefined, environment: ReplicaPoolEnvironment) {
    this.#options = options;
    this.#environment = environment;
    this.slabs = new Slabs(environment.clock);
    this.log = new Log(options.logger);
    this.events = new EventHub((callback) => environment.clock.defer(callback), this.log);
    this.others = new OtherWritersLog(this.log);
    this.checkpoint = new EngineCheckpoint(checkpoint, options);
    this.metrics = new EngineMetrics(metricsSource(this), {
      ...{ registry: options.registry, clock: environment.clock },
      ...options.metrics,
    });
    this.catalog = new ModelCatalog(() => {
      this.#targetsChanged();
      this.#memory.counters.catalogChanged();
    });
    const present = () => this.deployments.all.filter(({ state }) => state !== 'deleting');
    this.capacity = new CapacityCheck(options.overcommit, present, this.log);
    this.deployments = this.#createDeployments(checkpoint !== undefined);
    this.endpoints = this.#createEndpoints();
    this.targets = new Targets(
      this.catalog,
      this.deployments,
      () => this.endpoints.list().map(({ name }) => name),
      (target) => this.managed.search.refusalOf(target),
    );
    this.managed = this.#createModels();
    this.models = new ModelManager(this.managed, {
      ...{ replicas: this.#modelReplicas(), clock: environment.clock, log: this.#write, during: this.#during },
    });
    this.sharing = this.#createSharing();
    this.intake = new RequestIntake(this, environment.clock);
    this.waits = new CapacityWaits({
      ...{ clock: environment.clock, during: this.#during },
      outlookOf: (target, options) => this.intake.outlookOf(target, options),
      lookFor: (model) => this.managed.search.join(model),
      failed: (error) => this.requestFailed(error),
      most: () => this.defaultOptions.maxQueuedRequests,
    });
    this.nestedRequests = new NestedRequests((target, request, options, within) =>
      this.submit(target, request, options, toOutputs, within),
    );
    this.#replicaEvents = new ReplicaEvents(this);
  }

  /** Options of the default deployment as they are now; after it is deleted, as they were at the start. */
  get defaultOptions(): ResolvedDeploymentOptions {
    return this.deployments.find(DEFAULT_DEPLOYMENT)?.options ?? this.#options.deployments[DEFAULT_DEPLOYMENT];
  }

  /** As {@link RequestIntake.submit}, for a request that may wait for somebody who can take it. */
  submit<T>(
    target: string,
    request: unknown,
    options: RunOptions,
    reader: ResultReader<T>,
    within: RequestScope = ALONE,
  ): Promise<T> {
    // Most requests are not traced and do not wait: they need no closure.
    if (!isInferTraced()) return this.#submit(target, request, options, reader, within);
    return tracedRequest(target, options, reader, within, (...traced) => this.#submit(target, request, ...traced));
  }

  /** As {@link submit}, for a request whose answer goes to the stream item by item. */
  stream(target: string, request: unknown, options: RunOptions, stream: RequestStream): Promise<void> {
    return this.submit(target, request, options, toNothing, { ...ALONE, stream });
  }

  #submit<T>(
    target: string,
    request: unknown,
    options: RunOptions,
    reader: ResultReader<T>,
    within: RequestScope,
  ): Promise<T> {
    if (options.waitForCapacityMs === undefined) return this.intake.submit(target, request, options, reader, within);
    const submit: Submit<T> = (own, left, route) => this.intake.submit(target, own, left, reader, within, route);
    return this.waits.run(target, request, options, submit);
  }

  /** A name may mean something else from now on, or somebody may take requests who could not before. */
  #targetsChanged(): void {
    this.targets.forget();
    this.waits.changed();
  }

  /** A request was refused before any deployment had it. */
  requestFailed({ code, message: reason }: InfermuxError, target?: unknown): void {
    this.metrics.requestFailed(code);
    const model = typeof target === 'string' ? target.slice(0, MOST_OF_TARGET) : undefined;
    this.events.emit('requestFailed', () => ({ model, deployment: undefined, code, reason }));
  }

  readonly #write: Log['write'] = (level, fields, message) => this.log.write(level, fields, message);

  readonly #during = <T>(work: () => Promise<T>): Promise<T> => this.keepAlive.during(work);

  #createDeployments(isSaved: boolean): Deployments<Dispatcher<Replica>> {
    const { keepAlive, metrics, log, events, others } = this;
    const { capacity } = this;
    const factory = new DeploymentFactory({
      capacity,
      ...{ keepAlive, metrics, log, events, others, memory: this.#memory, pool: this.#environment },
      weightStore: this.#options.weightStore,
      loadRetries: this.#options.repository.retries,
      deployments: () => this.deployments.all,
      managed: () => this.managed,
      replicaEvents: () => this.#replicaEvents,
      targets: () => this.targets,
      running: () => this.waits.changed(),
    });
    return new Deployments({
      ...{ log: this.#write, during: this.#during, defaultReplicas, isSaved },
      create: (...beginning) => factory.create(...beginning),
      changed: () => this.#targetsChanged(),
      goal: (goal) => events.emit('goal', () => goal),
      checkCapacity: (...wanted) => capacity.check(...wanted),
      deleted: (name) => this.#deploymentDeleted(name),
      save: (deployments) => this.checkpoint.save({ deployments }),
    });
  }

  #deploymentDeleted(name: string): void {
    this.managed.pinned.unpinDeployment(name).catch((cause: unknown) => {
      const reason = messageOf(cause);
      this.log.write('warn', { deployment: name, reason }, 'pins of a deleted deployment stay saved');
    });
    for (const endpoint of this.endpoints.usersOf(name)) {
      const fields = { endpoint, deployment: name };
      this.log.write('warn', fields, 'an endpoint has a target in a deployment that is deleted');
    }
  }

  #createEndpoints(): Endpoints {
    return new Endpoints({
      log: this.#write,
      random: Math.random,
      checkTarget: (target) => this.#checkTarget(target),
      isModel: (name) => this.catalog.find(name) !== undefined,
      save: (endpoints) => this.checkpoint.save({ endpoints }),
      changed: () => this.waits.changed(),
    });
  }

  /** What a finder may find counts as known. */
  async #checkTarget(target: string): Promise<void> {
    const { model } = this.targets.resolve(target, undefined);
    if (isSought(model) && !this.managed.search.mayFind(model.id)) await this.managed.resolve(model.id);
  }

  #createSharing(): WeightSharing {
    return new WeightSharing({
      ...{ clock: this.#environment.clock, log: this.#write, availableMemory: () => machineCapacity().availableBytes },
      ...{ weightStore: this.#options.weightStore, fileHashes: this.#memory.fileHashes },
      replicas: () => replicasWithSessions(this.deployments.all),
    });
  }

  #modelReplicas(): ModelReplicas {
    return deployedReplicas(this.deployments, (key) => this.sharing.forget(key));
  }

  #createModels(): ManagedModels {
    const { models } = this.checkpoint;
    const options = {
      directory: typeof models === 'string' ? models : undefined,
      repository: this.#options.repository,
      finder: this.#options.finder,
      modelCache: this.#options.modelCache,
      weights: () => this.defaultOptions.weights,
    };
    return new ManagedModels(options, {
      ...{ catalog: this.catalog, clock: this.#environment.clock },
      replicas: this.#modelReplicas(),
      ...{ log: this.#write, during: this.#during },
      startThread: (entry, settings, observer) => new PooledThread(entry, settings, undefined, observer),
      received: (bytes) => this.metrics.searches.received(bytes),
      searched: (outcome, milliseconds) => this.metrics.searches.searched(outcome, milliseconds),
      savePins: (pins) => this.checkpoint.save({ pins }),
      saveRegistered: (sources) => this.checkpoint.saveRegistered(sources),
    });
  }
}
