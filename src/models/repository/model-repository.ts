import { basename, join, resolve } from 'node:path';
import { InfermuxError, messageOf, show, toInfermuxError } from '../../common/errors.js';
import type { ModelFiles } from '../deployer/deployed-files.js';
import { checkNewId } from '../deployer/file-names.js';
import { ModelDeployer } from '../deployer/model-deployer.js';
import type { Target } from '../finder/target.js';
import type { ModelCatalog } from '../model-catalog.js';
import type { ResolvedRepositoryOptions } from '../model-manager-options.js';
import type { PinnedModels } from '../pinned-models.js';
import { kindOf, SUFFIXES } from '../sources/model-folder.js';
import { FollowedModels, type FollowedModelsEnvironment } from './followed-models.js';
import { RepositoryScanner } from './repository-scanner.js';

/** The directory of models: finds its models, follows its changes, and deploys and removes models. */
export class ModelRepository {
  readonly followed: FollowedModels;
  readonly #catalog: ModelCatalog;
  readonly #pinned: PinnedModels;
  /** Absolute path. */
  readonly directory: string;
  readonly #deployer: ModelDeployer;

  constructor(directory: string, options: ResolvedRepositoryOptions, environment: FollowedModelsEnvironment) {
    const scanner = new RepositoryScanner(directory, options.versions, options.pinned);
    this.followed = new FollowedModels(scanner, options, environment);
    this.#catalog = environment.catalog;
    this.#pinned = environment.pinned;
    this.directory = resolve(directory);
    this.#deployer = new ModelDeployer(this.directory);
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
   * @param verify whether the first version of a model must be shown to load, too.
   * @returns its id.
   * @throws InfermuxError as {@link ModelDeployer.deploy}; `MODEL_LOAD_FAILED` for a version that does not load, and
   *   `REPLICA_FAILED` when no replica could try it. Its files are removed again.
   */
  async deploy(target: string, files: ModelFiles, verify: boolean): Promise<string> {
    const { id } = checkNewId(target);
    if ((this.#catalog.ownerOf(id) ?? 'directory') === 'sources')
      throw new InfermuxError('MODEL_ALREADY_EXISTS', `model ${show(id)} already exists: it is registered`);
    await this.#deployer.deploy(target, files);
    try {
      await this.followed.refresh(id, verify);
    } catch (error) {
      // The problem may be that of another version; what is found may be a model from elsewhere.
      if (this.#catalog.find(target) === undefined || this.#catalog.ownerOf(id) !== 'directory') {
        await this.undeploy(target).catch((cause: unknown) => {
          const { code, message } = toInfermuxError(error);
          throw new InfermuxError(code, `${message}; its files stay: ${messageOf(cause)}`, { cause: error });
        });
        throw error;
      }
    }
    return id;
  }

  /** Whether a look may find the model: its id is free, or the version is none that was found. */
  mayHave({ id, version }: Target): boolean {
    const entry = this.#catalog.entry(id);
    if (entry === undefined) return true;
    const isOwn = this.#catalog.ownerOf(id) === 'directory';
    return isOwn && version !== undefined && !entry.versions.includes(version);
  }

  /**
   * Looks for one model. Where nothing has its name, that costs three questions to the file system, and no list of the
   * directory: callers may ask for any number of models.
   */
  async look(id: string): Promise<void> {
    // A path could lead out of the directory.
    if (basename(id) !== id || id.includes('\0')) return;
    const paths = ['', ...SUFFIXES].map((suffix) => join(this.directory, `${id}${suffix}`));
    const kinds = await Promise.all(paths.map(kindOf));
    if (kinds.some((kind) => kind !== undefined)) await this.followed.lookFor(id);
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
