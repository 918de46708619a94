import { basename, join, resolve } from 'node:path';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import { readDescribed } from '../sources/described-model.js';
import type { Manifest, VersionPolicy } from '../sources/manifest.js';
import { ModelFileReader } from '../sources/model-files.js';
import {
  findModelFile,
  folderManifest,
  kindOf,
  listNames,
  SUFFIXES,
  TRITON_CONFIG,
  versionOf,
  whyNoVersion,
} from '../sources/model-folder.js';
import type { BrokenVersion, ModelScanner, RepositoryScan, ScannedModel } from './scanned-model.js';

interface Candidate {
  readonly version: number;
  /** Why its manifest cannot be used; undefined when it can. */
  readonly problem?: InfermuxError;
  readonly path: string;
  /** Includes the manifest of the model's folder; that of the version takes precedence. */
  readonly manifest: Manifest;
  /** Manifests that the model depends on. */
  readonly manifests: readonly string[];
}

const NAMES_AT_ONCE = 64;

/** The model that one name of the directory stands for. */
interface Entry {
  readonly id: string;
  readonly candidates: readonly Candidate[];
  readonly policy: VersionPolicy | undefined;
  /** Folders with a model whose names are digits and no version, with the reason. */
  readonly misnamed?: ReadonlyMap<string, string> | undefined;
  /** What its `config.pbtxt` says that has no counterpart here. */
  readonly ignored?: readonly string[] | undefined;
}

/**
 * Finds the models of a directory: `<id>.onnx`, `<id>/model.onnx` or `<id>/<version>/model.onnx`, also with `.ort`.
 * Links are followed. A problem of one model does not affect the others.
 */
export class RepositoryScanner implements ModelScanner {
  readonly directory: string;
  readonly #policy: VersionPolicy;
  readonly #mayPin: boolean;
  /** By id. What is known of a model's files stays while the model cannot be looked at. */
  readonly #files = new Map<string, ModelFileReader>();

  /**
   * @param policy the versions that are served of models that do not say.
   * @param mayPin whether a manifest may pin its model.
   */
  constructor(directory: string, policy: VersionPolicy, mayPin = true) {
    this.directory = resolve(directory);
    this.#policy = policy;
    this.#mayPin = mayPin;
  }

  /**
   * Reads the directory.
   *
   * @param only the id of the only model to look for.
   * @param except a version to ignore.
   * @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read.
   */
  async scan(only?: string, except?: number): Promise<RepositoryScan> {
    const passedOver = new Map<string, string>();
    const models = new Map<string, ScannedModel>();
    const isWanted = (name: string) =>
      only === undefined || name === only || SUFFIXES.some((suffix) => name === only + suffix);
    const names = (await listNames(this.directory)).filter((name) => !name.startsWith('.') && isWanted(name));
    // Not all at once: the calling thread handles every answer of the file system.
    for (let start = 0; start < names.length; start += NAMES_AT_ONCE) {
      const some = names.slice(start, start + NAMES_AT_ONCE);
      const found = await Promise.all(some.map((name) => this.#readName(name, passedOver, except)));
      for (const model of found) {
        if (model === undefined) continue;
        const other = models.get(model.id);
        models.set(model.id, other === undefined ? model : asTwice(other, model));
      }
    }
    const isEmpty = models.size === 0;
    if (only === undefined && !isEmpty)
      for (const id of this.#files.keys()) if (!models.has(id)) this.#files.delete(id);
    return { models, passedOver, isEmpty };
  }

  async #readName(
    name: string,
    passedOver: Map<string, string>,
    except: number | undefined,
  ): Promise<ScannedModel | undefined> {
    const suffix = SUFFIXES.find((candidate) => name.endsWith(candidate));
    let id = name;
    try {
      const path = join(this.directory, name);
      const isFile = suffix !== undefined && (await kindOf(path)) === 'file';
      if (isFile) id = basename(name, suffix);
      const entry = isFile ? fileEntry(id, path) : await folderEntry(id, path);
      if (entry === undefined) {
        // Any other file may lie there.
        if (suffix === undefined && (await kindOf(path)) === 'file') return undefined;
        passedOver.set(name, 'it is neither a file nor a folder, or it is a broken link');
        return undefined;
      }
      for (const [folder, reason] of entry.misnamed ?? []) passedOver.set(`${id}/${folder}`, reason);
      const { ignored = [] } = entry;
      if (ignored.length > 0) passedOver.set(`${id}/${TRITON_CONFIG}`, `without a counterpart: ${ignored.join('; ')}`);
      const candidates = entry.candidates.filter(({ version }) => version !== except);
      if (except !== undefined && candidates.length === 0) return undefined;
      const reason = whyPassedOver(entry);
      if (reason === undefined) return await this.#choose({ ...entry, candidates }, except === undefined);
      passedOver.set(name, reason);
      return undefined;
    } catch (cause) {
      return { id, served: [], versions: [], changedAt: 0, problem: toInfermuxError(cause) };
    }
  }

  /** @param isWhole whether the candidates are all versions of the model. */
  async #choose({ id, candidates, policy = this.#policy }: Entry, isWhole: boolean): Promise<ScannedModel> {
    const versions = candidates.map(({ version }) => version).sort((left, right) => left - right);
    const served = chooseVersions(versions, policy);
    if (served.length === 0) {
      const message = `model ${show(id)}: none of the versions to serve, ${show(policy)}, exists; found: ${versions.join(', ')}`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
    const files = this.#files.get(id) ?? new ModelFileReader();
    this.#files.set(id, files);
    const chosen = candidates.filter(({ version }) => served.includes(version));
    const broken: BrokenVersion[] = [];
    const looks = chosen.map((candidate) =>
      this.#read(id, candidate, files).catch((problem: InfermuxError) => {
        broken.push({ version: candidate.version, problem });
      }),
    );
    const read = (await Promise.all(looks)).filter((one) => one !== undefined);
    const [first] = broken.sort((left, right) => left.version - right.version);
    // What the system cannot answer leaves the model as it is.
    const unanswered = broken.find(({ problem }) => problem.retryable);
    if (first !== undefined && (read.length === 0 || unanswered !== undefined)) throw (unanswered ?? first).problem;
    if (isWhole) files.keepOnly(new Set(read.flatMap(({ paths }) => paths)));
    const changedAt = Math.max(...read.map((one) => one.changedAt));
    return { id, served: read.map(({ model }) => model), broken, versions, changedAt, problem: undefined };
  }

  /** @throws InfermuxError why the version cannot be read. */
  async #read(id: string, { problem, ...candidate }: Candidate, files: ModelFileReader) {
    if (problem !== undefined) throw problem;
    return readDescribed({ ...candidate, id }, files, this.#mayPin);
  }
}

function fileEntry(id: string, path: string): Entry {
  return { id, candidates: [{ version: 1, path, manifest: {}, manifests: [] }], policy: 'all' };
}

async function folderEntry(id: string, folder: string): Promise<Entry | undefined> {
  if ((await kindOf(folder)) !== 'folder') return undefined;
  const names = await listNames(folder);
  const direct = await findModelFile(folder);
  const isVersioned = names.some((name) => versionOf(name) !== undefined);
  const misnamed = direct === undefined ? await misnamedVersions(folder, names) : undefined;
  // A folder without models may have a model.json of another program.
  if (direct === undefined && !isVersioned) return { id, candidates: [], policy: undefined, misnamed };
  const { manifest, paths, ignored } = await folderManifest(folder);
  if (direct !== undefined) {
    const { version = 1 } = manifest;
    return { id, candidates: [{ version, path: direct, manifest, manifests: paths }], policy: 'all', ignored };
  }
  // A hash belongs to one file, so not to all versions.
  const { sha256: _, ...common } = manifest;
  const found = await Promise.all(names.map((name) => versionEntry(folder, name, common, paths)));
  const candidates = found.filter((candidate) => candidate !== undefined);
  return { id, candidates, policy: manifest.versions, misnamed, ignored };
}

/** Folders with a model whose names are digits and no version, with the reason. */
async function misnamedVersions(folder: string, names: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const misnamed = new Map<string, string>();
  for (const name of names) {
    const reason = whyNoVersion(name);
    if (reason !== undefined && (await findModelFile(join(folder, name))) !== undefined) misnamed.set(name, reason);
  }
  return misnamed;
}

async function versionEntry(
  folder: string,
  name: string,
  common: Manifest,
  manifests: readonly string[],
): Promise<Candidate | undefined> {
  const version = versionOf(name);
  const path = version === undefined ? undefined : await findModelFile(join(folder, name));
  if (version === undefined || path === undefined) return undefined;
  try {
    const own = await folderManifest(join(folder, name));
    return { version, path, manifest: { ...common, ...own.manifest }, manifests: [...manifests, ...own.paths] };
  } catch (cause) {
    // It matters only if the version is to be served.
    return { version, problem: toInfermuxError(cause), path, manifest: common, manifests };
  }
}

function whyPassedOver({ id, candidates }: Entry): string | undefined {
  if (id.includes('@')) return 'a model id must not contain "@", which separates id and version in a request';
  return candidates.length === 0 ? 'the folder has no model.onnx or model.ort, and no version that has one' : undefined;
}

/** @param versions in ascending order. */
function chooseVersions(versions: readonly number[], policy: VersionPolicy): readonly number[] {
  if (policy === 'latest') return versions.slice(-1);
  return policy === 'all' ? versions : versions.filter((version) => policy.includes(version));
}

function asTwice(one: ScannedModel, other: ScannedModel): ScannedModel {
  const paths = [one, other].map(({ id, served }) => served[0]?.path ?? id).join(' and ');
  const problem = new InfermuxError('MODEL_ALREADY_EXISTS', `model ${show(one.id)} exists twice, as ${paths}`);
  return { ...one, served: [], problem };
}
