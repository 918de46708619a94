import { resolve } from 'node:path';
import type { Clock } from '../../common/clock.js';
import type { ModelCatalog } from '../model-catalog.js';
import type { ModelLoader } from '../model-loader.js';
import type { ResolvedRepositoryOptions } from '../model-manager-options.js';
import type { ModelReplicas } from '../model-replicas.js';
import type { PinnedModels } from '../pinned-models.js';
import type { ModelReports } from '../reports/model-reports.js';
import type { ModelFiles } from './deployed-files.js';
import { ModelDeployer } from './model-deployer.js';
import { RepositoryFollower } from './repository-follower.js';
import { RepositoryScanner } from './repository-scanner.js';
import { RepositorySync, type SyncOrder, type SyncReport } from './repository-sync.js';

export interface ModelRepositoryEnvironment {
  readonly catalog: ModelCatalog;
  readonly loader: ModelLoader;
  readonly replicas: ModelReplicas;
  readonly pinned: PinnedModels;
  readonly reports: ModelReports;
  readonly clock: Clock;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** The directory of models: finds its models, follows its changes, and deploys and removes models. */
export class ModelRepository {
  readonly #catalog: ModelCatalog;
  readonly #pinned: PinnedModels;
  readonly #deployer: ModelDeployer;
  readonly #sync: RepositorySync;
  readonly #follower: RepositoryFollower;
  #isOpen = false;

  constructor(directory: string, options: ResolvedRepositoryOptions, environment: ModelRepositoryEnvironment) {
    const { catalog, pinned, reports, clock, log } = environment;
    const { versions, settleMs, pollMs, lazy } = options;
    this.#catalog = catalog;
    this.#pinned = pinned;
    this.#deployer = new ModelDeployer(resolve(directory));
    const scanner = new RepositoryScanner(directory, versions);
    this.#sync = new RepositorySync({ scanner, settleMs }, environment, {
      served: (id, change) => {
        if (this.#isOpen) log('info', { model: id }, `model ${change}`);
        if (pinned.hasId(id)) void pinned.load();
      },
      removed: (id) => log('info', { model: id }, 'model removed'),
      failed: (id, { message: reason }) => log('warn', { model: id, reason }, 'model cannot be served'),
      forgotten: (key) => reports.forgetModel(key),
    });
    const look = () => this.#sync.sync({ wait: false, load: !lazy });
    this.#follower = new RepositoryFollower(pollMs, look, clock, {
      unreadable: ({ message: reason }, failuresInRow) => {
        const message = 'the directory of models cannot be read; loaded models are still served, and it is tried again';
        log('warn', { reason, failuresInRow }, message);
      },
      readableAgain: () => log('info', {}, 'the directory of models can be read again'),
    });
  }

  /**
   * Registers the models of the directory without loading them, and begins to follow it.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read.
   */
  async open(): Promise<void> {
    // A directory that is read-only can still be served.
    await this.#deployer.cleanUp().catch(() => undefined);
    const { unsettled } = await this.#sync.sync({ wait: true, load: false });
    this.#isOpen = true;
    this.#follower.follow(unsettled.length);
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read: then nothing has changed. */
  sync(order: SyncOrder): Promise<SyncReport> {
    return this.#sync.sync(order);
  }

  /**
   * Writes a model into the directory and registers it.
   *
   * @returns its id.
   * @throws InfermuxError as {@link ModelDeployer.deploy}; `MODEL_LOAD_FAILED` for a version that does not load and
   *   would replace one in use. Its files are removed again.
   */
  async deploy(target: string, files: ModelFiles): Promise<string> {
    const id = await this.#deployer.deploy(target, files);
    try {
      await this.#sync.refresh(id);
    } catch (error) {
      // The problem may be that of another version.
      if (this.#catalog.find(target) === undefined) {
        await this.undeploy(target).catch(() => undefined);
        throw error;
      }
    }
    return id;
  }

  /**
   * Answers the model's accepted requests, releases its sessions and removes its files.
   *
   * @throws InfermuxError as {@link ModelDeployer.checkPresent}.
   */
  async undeploy(target: string): Promise<void> {
    const { id, version } = await this.#deployer.checkPresent(target);
    await this.#sync.withdraw(id, version, () => this.#deployer.undeploy(target));
    if (this.#catalog.entry(id) === undefined) await this.#pinned.unpinId(id);
  }

  /** Stops following the directory. */
  close(): void {
    this.#follower.stop();
  }
}
