import { randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, mkdir, readdir, realpath, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { isNotThere, undefinedIfNotThere } from '../../common/files/system-errors.js';
import { ABANDONED_MS, createFile, syncFolder } from '../../common/files/write-file.js';
import { KeyedTasks } from '../../common/tasks/keyed-tasks.js';
import { isWithin } from '../sources/model-files.js';
import {
  findModelFile,
  folderManifest,
  isNamedByFolder,
  kindOf,
  SUFFIXES,
  versionOf,
} from '../sources/model-folder.js';
import { readFiles } from './deployed-files.js';
import { checkNewId } from './file-names.js';

/** Folder in the repository for files that are being written or removed. Scans ignore names that begin with a dot. */
const STAGING = '.infermux-staging';
/** Other processes may read a deployed model, as far as the umask lets them. */
const FILE_MODE = 0o666;
/** How often a folder is created again that others remove. */
const MOST_ATTEMPTS = 10;

/** Writes models into a directory and removes them, all or nothing. */
export class ModelDeployer {
  readonly #directory: string;
  /** Changes of one model take turns: the removal of its last version must not take a new one with it. */
  readonly #turns = new KeyedTasks();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Writes the files beside the repository's models, syncs them to the disk, and renames their folder into place. So a
   * scan never sees half of them, even if the process is killed.
   *
   * @param target a model id, or `id@version`.
   * @returns the id.
   * @throws InfermuxError `INVALID_ARGUMENT` for names or links that lead out of the folder, or files without a model;
   *   `MODEL_ALREADY_EXISTS`; `FAILED_PRECONDITION` when it cannot be written.
   */
  async deploy(target: unknown, files: unknown): Promise<string> {
    const { id, version } = checkNewId(target);
    const contents = readFiles(files, version !== undefined);
    return this.#changing(id, async () => {
      await this.#checkFree(id, version);
      await this.#staged(async (folder) => {
        const staged = join(folder, 'model');
        await writeFolder(staged, contents);
        await this.#renameInto(staged, join(this.#directory, id, version === undefined ? '' : String(version)), target);
      });
      return id;
    });
  }

  /**
   * Checks that the target exists.
   *
   * @returns its id and version.
   * @throws InfermuxError `INVALID_ARGUMENT`, also for a link that leads out of the directory, `MODEL_NOT_FOUND`,
   *   `FAILED_PRECONDITION`.
   */
  async checkPresent(target: unknown): Promise<{ id: string; version: number | undefined }> {
    const { id, version } = checkNewId(target);
    await this.#changing(id, () => this.#pathsOf(id, version));
    return { id, version };
  }

  /**
   * Removes the model's files. A scan never sees half of them, even if the process is killed.
   *
   * @throws InfermuxError as {@link checkPresent}.
   */
  async undeploy(target: unknown): Promise<void> {
    const { id, version } = checkNewId(target);
    await this.#changing(id, async () => {
      for (const path of await this.#pathsOf(id, version)) await this.#take(path);
      // A folder without any version left holds no model: the rest of it goes too.
      const folder = join(this.#directory, id);
      const isLeft = version !== undefined && (await kindOf(folder)) === 'folder' && !(await isModelFolder(folder));
      // Another process may have taken it meanwhile.
      if (isLeft) await this.#take(folder).catch(undefinedIfNotThere);
    });
  }

  /** Moves the path out of sight before removing it, because that takes a while. */
  async #take(path: string): Promise<void> {
    await this.#staged(async (folder) => {
      await rename(path, join(folder, 'model'));
      await syncFolder(dirname(path));
    });
  }

  /** Removes the staged folders of processes that were killed. */
  async cleanUp(): Promise<void> {
    const staging = join(this.#directory, STAGING);
    if ((await statOf(staging))?.isDirectory() !== true) return;
    for (const name of (await readdir(staging).catch(undefinedIfNotThere)) ?? []) {
      const path = join(staging, name);
      const found = await statOf(path);
      if (found !== undefined && Date.now() - found.mtimeMs > ABANDONED_MS) {
        // One of another user stays, and does no harm.
        await rm(path, { recursive: true, force: true }).catch(() => undefined);
      }
    }
    await removeIfEmpty(staging);
  }

  /** Gives the work a fresh folder in the repository that no scan sees, and removes it afterwards. */
  async #staged(work: (folder: string) => Promise<void>): Promise<void> {
    const staging = join(this.#directory, STAGING);
    if ((await statOf(staging))?.isDirectory() === false)
      throw new InfermuxError('INVALID_ARGUMENT', `${staging} must be a folder, not a link`);
    const folder = join(staging, randomUUID());
    try {
      await createAgain(staging, () => mkdir(folder, { mode: 0o700 }));
      await work(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
      await removeIfEmpty(staging);
    }
  }

  /** Does the work after earlier work on the same model. Errors of the file system become `FAILED_PRECONDITION`. */
  #changing<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    return this.#turns.add(
      id,
      before.then(async () => {
        try {
          await this.cleanUp();
          return await work();
        } catch (cause) {
          if (cause instanceof InfermuxError) throw cause;
          const message = `${this.#directory} cannot be changed: ${messageOf(cause)}`;
          throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
        }
      }),
    );
  }

  /** The paths of the model, or of one version of it. */
  async #pathsOf(id: string, version: number | undefined): Promise<string[]> {
    const own = version === undefined ? undefined : join(this.#directory, id, String(version));
    if (own !== undefined && (await statOf(dirname(own)))?.isSymbolicLink() === true) {
      const message = `${dirname(own)} is a link, and its versions are another model's: undeploy them there, or undeploy ${show(id)}`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
    if (own !== undefined) await this.#checkInside(own);
    if (own !== undefined && (await isModelFolder(own))) return [own];
    const paths: string[] = [];
    for (const path of this.#namesOf(id)) {
      await this.#checkInside(path);
      const isFolder = path === join(this.#directory, id);
      const isThere = await (isFolder ? isModelFolder(path) : isModelFile(path));
      if (isThere && (version === undefined || (await versionAt(path)) === version)) paths.push(path);
    }
    if (paths.length > 0) return paths;
    const name = version === undefined ? id : `${id}@${version}`;
    throw new InfermuxError('MODEL_NOT_FOUND', `no model ${show(name)} in ${this.#directory}`);
  }

  #namesOf(id: string): string[] {
    return ['', ...SUFFIXES].map((suffix) => join(this.#directory, `${id}${suffix}`));
  }

  async #checkFree(id: string, version: number | undefined): Promise<void> {
    for (const path of this.#namesOf(id)) {
      await this.#checkInside(path);
      const found = await statOf(path);
      if (found === undefined) continue;
      if (version === undefined || !found.isDirectory()) throw alreadyExists(id, path);
    }
    if (version === undefined) return;
    const folder = join(this.#directory, id);
    const own = join(folder, String(version));
    if ((await statOf(own)) !== undefined) throw alreadyExists(`${id}@${version}`, own);
    const direct = (await namesIn(folder)).find(isNamedByFolder);
    if (direct !== undefined) {
      const message = `${join(folder, direct)} stands for the whole folder: versions need folders of their own, ${id}/<version>/`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
  }

  /** Checks that a link does not lead out of the repository. */
  async #checkInside(path: string): Promise<void> {
    const real = await realpath(path).catch(undefinedIfNotThere);
    const isLink = (await statOf(path))?.isSymbolicLink() === true;
    const isInside = real === undefined ? !isLink : isWithin(await realpath(this.#directory), real);
    if (isInside) return;
    throw new InfermuxError('INVALID_ARGUMENT', `${path} is a link that leads out of ${this.#directory}`);
  }

  /** Refuses a place that was taken meanwhile: a rename would replace an empty folder. */
  async #renameInto(staged: string, place: string, target: unknown): Promise<void> {
    if ((await statOf(place)) !== undefined) throw alreadyExists(target, place);
    const parent = dirname(place);
    try {
      if (parent === this.#directory) await rename(staged, place);
      else await createAgain(parent, () => rename(staged, place));
    } catch (cause) {
      if (parent !== this.#directory) await removeIfEmpty(parent);
      const { code } = cause as NodeJS.ErrnoException;
      if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOTDIR') throw alreadyExists(target, place);
      throw cause;
    }
    await syncFolder(parent);
  }
}

/**
 * Does the work in a folder that is created for it if need be. Another process may remove the folder while it is empty:
 * then it is created once more.
 */
async function createAgain(folder: string, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await mkdir(folder).catch(ignoreExisting);
    try {
      return await work();
    } catch (error) {
      // Others may remove the folder while it is empty, and create it again.
      if (!isNotThere(error) || attempt === MOST_ATTEMPTS) throw error;
    }
  }
}

/** Another process may be about to write into the folder, which {@link createAgain} lets it do. */
async function removeIfEmpty(folder: string): Promise<void> {
  // An empty folder that stays does no harm.
  await rmdir(folder).catch(() => undefined);
}

async function writeFolder(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const folders = new Set([folder]);
  await mkdir(folder);
  for (const [name, contents] of files) {
    const path = join(folder, name);
    for (let parent = dirname(path); !folders.has(parent); parent = dirname(parent)) folders.add(parent);
    await mkdir(dirname(path), { recursive: true });
    await createFile(path, contents, FILE_MODE);
  }
  for (const path of folders) await syncFolder(path);
}

async function isModelFile(path: string): Promise<boolean> {
  return (await kindOf(path)) === 'file';
}

/** Whether the folder holds a model. Other folders must not be removed. */
async function isModelFolder(path: string): Promise<boolean> {
  if ((await kindOf(path)) !== 'folder') return false;
  const versions = (await namesIn(path)).filter((name) => versionOf(name) !== undefined);
  for (const folder of ['', ...versions]) if ((await findModelFile(join(path, folder))) !== undefined) return true;
  return false;
}

/** The version of a model file, or of a folder that holds one directly. */
async function versionAt(path: string): Promise<number | undefined> {
  if ((await kindOf(path)) === 'file') return 1;
  if ((await findModelFile(path)) === undefined) return undefined;
  return (await folderManifest(path)).manifest.version ?? 1;
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

/** Like `lstat`, which does not follow links; undefined when nothing is there. */
async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(undefinedIfNotThere)) ?? [];
}

function alreadyExists(target: unknown, path: string): InfermuxError {
  return new InfermuxError('MODEL_ALREADY_EXISTS', `model ${show(target)} already exists: ${path}`);
}
