import { resolve } from 'node:path';
import { InfermuxError, messageOf, toInfermuxError } from '../../common/errors.js';
import type { ModelCatalog } from '../model-catalog.js';
import type { ResolvedRepositoryOptions } from '../model-manager-options.js';
import type { PinnedModels } from '../pinned-models.js';
import type { ModelFiles } from './deployed-files.js';
import { FollowedModels, type FollowedModelsEnvironment } from './followed-models.js';
import { ModelDeployer } from './model-deployer.js';
import { RepositoryScanner } from './repository-scanner.js';

/** The directory of models: finds its models, follows its changes, and deploys and removes models. */
export class ModelRepository {
  readonly followed: FollowedModels;
  readonly #catalog: ModelCatalog;
  readonly #pinned: PinnedModels;
  readonly #deployer: ModelDeployer;

  constructor(directory: string, options: ResolvedRepositoryOptions, environment: FollowedModelsEnvironment) {
    const scanner = new RepositoryScanner(directory, options.versions, options.pinned);
    this.followed = new FollowedModels(scanner, options, environment);
    this.#catalog = environment.catalog;
    this.#pinned = environment.pinned;
    this.#deployer = new ModelDeployer(resolve(directory));
  }

  /**
   * Registers the models of the directory without loading them, and begins to follow it.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read.
   */
  async open(): Promise<void> {
    // A directory that is read-only can still be served.
    await this.#deployer.cleanUp().catch(() => undefined);
    await this.followed.open();
  }

  /**
   * Writes a model into the directory and registers it.
   *
   * @returns its id.
   * @throws InfermuxError as {@link ModelDeployer.deploy}; `MODEL_LOAD_FAILED` for a version that does not load, and
   *   `REPLICA_FAILED` when no replica could try it, if another version is served. Its files are removed again.
   */
  async deploy(target: string, files: ModelFiles): Promise<string> {
    const id = await this.#deployer.deploy(target, files);
    try {
      await this.followed.refresh(id);
    } catch (error) {
      // The problem may be that of another version.
      if (this.#catalog.find(target) === undefined) {
        await this.undeploy(target).catch((cause: unknown) => {
          const { code, message } = toInfermuxError(error);
          throw new InfermuxError(code, `${message}; its files stay: ${messageOf(cause)}`, { cause: error });
        });
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
    await this.followed.withdraw(id, version, () => this.#deployer.undeploy(target));
    if (this.#catalog.entry(id) === undefined) await this.#pinned.unpinId(id);
  }
}

/** @throws InfermuxError `FAILED_PRECONDITION` when there is no directory of models, which the call needs. */
export function required(repository: ModelRepository | undefined, call: string): ModelRepository {
  if (repository !== undefined) return repository;
  const message = `${call} needs a directory of models, and options.models names none`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}
