import { types } from 'node:util';
import { toInfermuxError } from '../../common/errors.js';
import {
  type EngineLogger,
  type InferenceEngine,
  InfermuxError,
  type ModelFiles,
  type ModelReport,
  readTritonConfig,
  type TritonConfig,
} from '../../index.js';
import { refused } from '../../open-inference/error-statuses.js';
import type { Parameters } from '../../open-inference/inference-call.js';
import type { ServedNames } from './served-names.js';

/** One model of the index, in the form of the protocol's extension. */
export interface IndexEntry {
  readonly name: string;
  readonly version: string;
  readonly state: 'READY' | 'LOADING' | 'UNAVAILABLE';
  /** Why it is not ready. */
  readonly reason: string;
}

/** A longer configuration would be long in parsing. */
const MOST_CONFIG_CHARACTERS = 65_536;
const FILE = /^file:(.+)$/;
const VERSIONED = /^(\d+)\/(.+)$/;

/** Lists, loads and unloads models for the protocol's extension for the model repository. */
export class RepositoryAdmin {
  readonly #engine: InferenceEngine;
  readonly #names: ServedNames;

  readonly #logger: EngineLogger | undefined;

  constructor(engine: InferenceEngine, names: ServedNames, logger: EngineLogger | undefined) {
    this.#logger = logger;
    this.#engine = engine;
    this.#names = names;
  }

  /** @param readyOnly whether models that are not ready are left out. */
  async index(readyOnly: boolean): Promise<IndexEntry[]> {
    const others = this.#names.others().map(async (name): Promise<IndexEntry> => {
      const isReady = await this.#names.isReady(name).catch(() => false);
      const [state, reason] = isReady ? (['READY', ''] as const) : (['UNAVAILABLE', 'not ready'] as const);
      return { name, version: '', state, reason };
    });
    const entries = [...this.#engine.models.list().map(entryOf), ...(await Promise.all(others))];
    return readyOnly ? entries.filter(({ state }) => state === 'READY') : entries;
  }

  /**
   * Loads a model, or one with the files in the parameters: `file:<version>/model.onnx` and so on. Files are written into
   * the engine's directory of models; an engine without one keeps them in memory. `config`, a JSON text in the form of
   * Triton's model configuration, goes with the files, or holds for a model that is there until its next load.
   *
   * @throws InfermuxError as `engine.models.load`, `configure`, `deploy` and `register`.
   */
  async load(name: string, parameters: Parameters): Promise<void> {
    const files = filesOf(parameters);
    const { config } = parameters;
    if (config !== undefined && typeof config !== 'string') {
      throw invalid(`parameters.config must be the JSON of a model configuration in a string, got ${typeof config}`);
    }
    if (config !== undefined && config.length > MOST_CONFIG_CHARACTERS) {
      throw invalid(`parameters.config must have at most ${MOST_CONFIG_CHARACTERS} characters, got ${config.length}`);
    }
    const manifest = config === undefined ? undefined : this.#manifestOf(name, config);
    try {
      if (files.size === 0) await this.#loadKnown(name, manifest);
      else await this.#loadFiles(name, files, manifest);
    } catch (cause) {
      const error = toInfermuxError(cause);
      const isOfRequest = files.size > 0 || manifest !== undefined;
      if (isOfRequest && error.code === 'MODEL_LOAD_FAILED' && !error.retryable) throw refused('unprocessable', error);
      throw error;
    }
  }

  async #loadFiles(name: string, files: FilesByVersion, manifest: TritonConfig['manifest'] | undefined): Promise<void> {
    for (const [version, own] of files) {
      const withManifest = manifest === undefined ? own : { ...own, 'model.json': JSON.stringify(manifest) };
      await this.#put(version === undefined ? name : `${name}@${version}`, withManifest, manifest);
    }
    await this.#configure(name, undefined);
    await this.#engine.models.load(name);
  }

  #manifestOf(model: string, config: string): TritonConfig['manifest'] {
    const { manifest, ignored } = readTritonConfig(config, 'parameters.config');
    if (ignored.length > 0) this.#logger?.warn({ model, ignored }, 'settings of a load without a counterpart');
    return manifest;
  }

  /** @param manifest what holds until the next load in place of the model's own settings. */
  async #loadKnown(name: string, manifest: TritonConfig['manifest'] | undefined): Promise<void> {
    const thing = await this.#names.find(name);
    if (thing.kind === 'model') {
      const { target, report } = thing;
      await this.#configure(report.id, manifest);
      await this.#engine.models.load(target);
    } else if (manifest !== undefined) throw invalid(`${name} is no model, and has no configuration`);
    // What has no model of its own is there as long as it exists.
  }

  async #configure(id: string, manifest: TritonConfig['manifest'] | undefined): Promise<void> {
    const { batching, session, warmUp } = manifest ?? {};
    await this.#engine.models.configure(id, manifest && { batching, session, warmUp });
  }

  /** Releases the sessions of a model, which stays known. @throws InfermuxError as `engine.models.unload`. */
  async unload(name: string): Promise<void> {
    const thing = await this.#names.find(name);
    if (thing.kind === 'model') await this.#engine.models.unload(thing.target);
  }

  /** Adds a version. In memory it takes the place of one that is there. @param manifest its settings. */
  async #put(target: string, files: ModelFiles, manifest: TritonConfig['manifest'] | undefined): Promise<void> {
    if (this.#engine.models.directory !== undefined) await this.#engine.models.deploy(target, files);
    else {
      const bytes = files['model.onnx'] ?? files['model.ort'];
      if (bytes === undefined || typeof bytes === 'string')
        throw invalid('the files must hold a model.onnx or model.ort');
      const { batching, session, warmUp } = manifest ?? {};
      await this.#engine.models.register(target, { bytes, batching, session, warmUp });
    }
  }
}

function entryOf({ id, version, isReady, problem, replicas }: ModelReport): IndexEntry {
  const isLoading =
    replicas.some(({ state }) => state === 'loading') && !replicas.some(({ state }) => state === 'loaded');
  const failed = replicas.find(({ state }) => state === 'failed')?.reason;
  const state = isReady ? (isLoading ? 'LOADING' : 'READY') : 'UNAVAILABLE';
  return {
    name: id,
    version: version === undefined ? '' : String(version),
    state,
    reason: isReady ? '' : (problem ?? failed ?? 'not loaded'),
  };
}

/** Files by version; undefined for files without one. */
type FilesByVersion = ReadonlyMap<number | undefined, Record<string, Uint8Array>>;

/** The files in the parameters. */
function filesOf(parameters: Parameters): FilesByVersion {
  const files = new Map<number | undefined, Record<string, Uint8Array>>();
  for (const [name, contents] of Object.entries(parameters)) {
    const path = FILE.exec(name)?.[1];
    if (path === undefined) continue;
    const [, version, own] = VERSIONED.exec(path) ?? [undefined, undefined, path];
    const key = version === undefined ? undefined : Number(version);
    const ofVersion = files.get(key) ?? {};
    ofVersion[own as string] = bytesOf(name, contents);
    files.set(key, ofVersion);
  }
  return files;
}

function bytesOf(name: string, contents: unknown): Uint8Array {
  if (types.isUint8Array(contents)) return contents;
  if (typeof contents !== 'string' || !/^[\w+/=\s-]*$/.test(contents))
    throw invalid(`parameters.${name} must be base64`);
  return Buffer.from(contents, 'base64');
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
