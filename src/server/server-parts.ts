import { DenseList, type Positioned } from '../common/dense-list.js';
import { Console } from '../console/console.js';
import type { InferenceEngine } from '../index.js';
import type { Allocate } from '../open-inference/raw-tensors.js';
import { AccessControl } from './access-control.js';
import { Admission } from './inference/admission.js';
import { allocateOf } from './inference/allocate.js';
import { Inference } from './inference/inference.js';
import { LogSettings } from './inference/log-settings.js';
import { RepositoryAdmin } from './inference/repository-admin.js';
import { ServedNames } from './inference/served-names.js';
import { InferenceStatistics } from './inference/statistics.js';
import { StatisticsReport } from './inference/statistics-report.js';
import { TurnGate } from './inference/turn-gate.js';
import { ThisNode } from './node/this-node.js';
import { ServerMetrics } from './server-metrics.js';
import type { ResolvedRest } from './server-options.js';

/** An answer over HTTP that is to come. */
interface ComingAnswer extends Positioned {
  /** What it says before its headers are sent decides whether the connection is kept. */
  readonly response: { shouldKeepAlive: boolean };
}

/** What the protocols of one server share. */
export class ServerParts {
  readonly engine: InferenceEngine;
  readonly options: ResolvedRest;
  readonly names: ServedNames;
  readonly statistics: StatisticsReport;
  readonly inference: Inference;
  readonly repository: RepositoryAdmin;
  readonly admission: Admission;
  readonly gate = new TurnGate();
  /** Makes the tensors of requests. */
  readonly allocate: Allocate;
  readonly access: AccessControl;
  readonly metrics: ServerMetrics;
  readonly node: ThisNode;
  readonly logSettings: LogSettings;
  /** The page that shows what the engine does, if it is wanted. */
  readonly console: Console | undefined;
  /** Requests over HTTP that have come so far. */
  begun = 0;
  #isDraining = false;
  #isKept = true;
  readonly #answers = new DenseList<ComingAnswer>();

  /** @throws InfermuxError `INVALID_ARGUMENT` for a file of keys that cannot be read. */
  constructor(engine: InferenceEngine, options: ResolvedRest) {
    this.engine = engine;
    this.options = options;
    this.allocate = allocateOf(engine);
    this.names = new ServedNames(engine);
    const statistics = new InferenceStatistics();
    this.statistics = new StatisticsReport(engine, this.names, statistics);
    this.inference = new Inference(engine, this.names, statistics, (isFailure) => this.node.load.answered(isFailure));
    this.repository = new RepositoryAdmin(engine, this.names, options.logger);
    this.admission = new Admission(options.limits.requests, options.limits.totalBodyBytes);
    this.node = new ThisNode(engine, this.admission, options.node);
    this.access = new AccessControl(options.auth, options.isAdminLocal, options.logger);
    this.logSettings = new LogSettings(options.logger);
    this.console = options.console ? new Console(engine, options.admin) : undefined;
    this.metrics = new ServerMetrics(engine.metrics, this.admission);
  }

  /** Whether the server is being ended: then it is not ready, whatever the engine is. */
  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** The server is being ended: it is not ready from now on. */
  drain(): void {
    this.#isDraining = true;
    this.console?.end();
  }

  /** Each answer from now on tells the client that its connection is not kept. */
  keepNoConnection(): void {
    this.#isKept = false;
    for (const { response } of this.#answers.items) response.shouldKeepAlive = false;
  }

  began(answer: ComingAnswer): void {
    this.begun += 1;
    if (!this.#isKept) answer.response.shouldKeepAlive = false;
    this.#answers.add(answer);
  }

  /** @returns false when it has ended before. */
  ended(answer: ComingAnswer): boolean {
    return this.#answers.remove(answer);
  }

  /** Whether requests are answered. */
  get isReady(): boolean {
    return !this.#isDraining && this.engine.ready;
  }

  close(): void {
    this.console?.close();
    this.access.close();
    this.node.load.close();
    this.metrics.close();
  }
}
