import { createHash } from 'node:crypto';
import { type BigIntStats, readFileSync, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { areSameStamps, isUntouched } from '../../common/files/file-stamp.js';
import { isNotThere, lookFailed, undefinedIfNotThere } from '../../common/files/system-errors.js';
import type { ModelReference, WeightPlacement } from '../../contracts/model-reference.js';
import { isPlain, mergeSettings, onDevice, providersOf } from '../../contracts/session-settings.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { stopping } from '../native-call.js';
import type { FileHashes } from './file-hashes.js';
import { COMPILED, OnnxSession, onnxruntimeVersion, type SessionSettings } from './onnx-session.js';
import type { SessionLoader } from './session.js';
import { runWarmUps } from './warm-up.js';
import { STORE_FORMAT, type WeightStore } from './weight-store.js';

/** Sharing less is not worth the files: a session takes as much memory beside its weights. */
const LEAST_SHARED_BYTES = 2 ** 20;

export interface SessionLoaderOptions {
  /** For models that set none, key by key. */
  readonly session: SessionSettings;
  /** For models that set none. */
  readonly weights: WeightPlacement;
  /** Id of the device for execution providers other than `cpu` that set none. */
  readonly device?: number | undefined;
}

export interface SessionLoaderEnvironment {
  readonly counters: ReplicaCounters;
  readonly store: WeightStore;
  readonly hashes: FileHashes;
  /** Called when a model is loaded with weights of its own although they were meant to be shared. */
  notShared(model: ModelReference, reason: string): void;
  /** Called when a model was compiled for the store. */
  compiled(model: ModelReference, milliseconds: number): void;
}

/** Loads sessions: checks the files, finds or makes shared weights, and ends with the model's warm-up runs. */
export class OnnxSessionLoader implements SessionLoader {
  readonly #options: SessionLoaderOptions;
  readonly #environment: SessionLoaderEnvironment;

  constructor(options: SessionLoaderOptions, environment: SessionLoaderEnvironment) {
    this.#options = options;
    this.#environment = environment;
  }

  /**
   * @throws InfermuxError `MODEL_LOAD_FAILED` with the reason, retryable when it says nothing about the registered files;
   *   `REPLICA_FAILED` when the thread must stop.
   */
  async load(model: ModelReference): Promise<OnnxSession> {
    let session: OnnxSession | undefined;
    try {
      await this.#checkHashes(model);
      session = await this.#create(model);
      // Only now, so that no change during the load is missed.
      await this.#checkFiles(model);
      await runWarmUps(session, model);
      return session;
    } catch (error) {
      await session?.release().catch(() => undefined);
      // The faults of another file are not the model's.
      if (!isPassing(error)) await this.#checkFiles(model);
      throw error;
    }
  }

  async #create(model: ModelReference): Promise<OnnxSession> {
    const { session: common, device } = this.#options;
    const merged = withoutAuto(mergeSettings(common, model.session ?? {}));
    const options = device === undefined ? merged : onDevice(merged, device);
    const weights = model.weights ?? this.#options.weights;
    const shared = weights === 'shared' ? await this.#loadShared(model, options) : undefined;
    return shared ?? OnnxSession.load(model, options, this.#environment.counters);
  }

  /**
   * Checks that the files are those that were registered: two models must not answer under one version.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED`, retryable: the model is looked at again.
   */
  async #checkFiles({ id, files = [], sha256 = {} }: ModelReference): Promise<void> {
    for (const { path, stamp, sha256: seen } of files) {
      const found = statOf(id, path);
      const known = seen ?? sha256[path];
      // Some network file systems make up inodes at each call: only a hash can tell whether it is another file.
      const isSameFile = known === undefined || areSameStamps(found ?? stamp, stamp);
      if (found !== undefined && isSameFile && isUntouched(found, stamp)) continue;
      if (found !== undefined && known !== undefined && (await this.#hashOf(id, path)) === known) continue;
      const what = found === undefined ? 'is gone' : 'has changed since the model was registered';
      const message = `model ${show(id)}: ${path} ${what}, so it is not loaded. It is looked at again: try again soon; engine.models.get(${show(id)}).problem says if it cannot be served`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message, { retryable: true });
    }
  }

  async #checkHashes({ id, sha256 = {} }: ModelReference): Promise<void> {
    for (const [path, expected] of Object.entries(sha256)) {
      const hash = await this.#hashOf(id, path);
      if (hash === expected) continue;
      const message = `model ${show(id)}: ${path} does not match its model.json: SHA-256 is ${hash}, expected ${expected}`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message);
    }
  }

  async #hashOf(id: string, path: string): Promise<string> {
    try {
      return await this.#environment.hashes.of(path);
    } catch (cause) {
      throw lookFailed('MODEL_LOAD_FAILED', `model ${show(id)}`, cause);
    }
  }

  /** Returns undefined when the model should have weights of its own. */
  async #loadShared(model: ModelReference, options: SessionSettings): Promise<OnnxSession | undefined> {
    const { counters, store, notShared } = this.#environment;
    if (model.bytes < LEAST_SHARED_BYTES) return undefined;
    const reason = whyNotShared(model, options);
    if (reason !== undefined) {
      notShared(model, reason);
      return undefined;
    }
    try {
      const startedAt = performance.now();
      const key = await this.#keyOf(model, options);
      const { folder, declined } = await store.find(
        key,
        async (into) => {
          const declined = await this.#compile(model, options, into);
          // The entry must not hold another file than the one that it is named after.
          if ((await this.#keyOf(model, options)) !== key) throw new Error('its files changed while it was compiled');
          return declined;
        },
        () => {
          if (counters.isStopping) throw stopping();
        },
      );
      if (declined !== undefined) {
        notShared(model, declined);
        return undefined;
      }
      const compiled = { path: join(folder, COMPILED.model), preparationMs: performance.now() - startedAt };
      return await OnnxSession.load(model, options, counters, compiled).catch(async (error) => {
        // The entry was whole, so onnxruntime refuses it; or it was removed meanwhile, which a new try in a day shows.
        if (!isPassing(error)) await store.decline(key, messageOf(error));
        throw error;
      });
    } catch (error) {
      if (isStopping(error)) throw error;
      notShared(model, messageOf(error));
      return undefined;
    }
  }

  /** @returns why sharing is not worthwhile; undefined when it is. */
  async #compile(model: ModelReference, options: SessionSettings, folder: string): Promise<string | undefined> {
    const { counters, compiled } = this.#environment;
    const startedAt = performance.now();
    let weights: string;
    try {
      ({ weights } = await OnnxSession.compile(model, options, counters, folder));
    } catch (error) {
      if (isPassing(error)) throw error;
      return `it could not be compiled: ${messageOf(error)}`;
    }
    compiled(model, performance.now() - startedAt);
    const bytes = (await stat(weights).catch(undefinedIfNotThere))?.size ?? 0;
    return bytes < LEAST_SHARED_BYTES ? `only ${bytes} bytes of it could be shared` : undefined;
  }

  /** Returns a hash of all that the compiled model depends on. */
  async #keyOf(model: ModelReference, options: SessionSettings): Promise<string> {
    const { path, contents, externalData = [] } = model;
    const key = createHash('sha256');
    if (contents !== undefined) key.update(new Uint8Array(contents));
    else for (const file of [path, ...externalData]) key.update(await this.#environment.hashes.of(file));
    key.update(JSON.stringify([STORE_FORMAT, onnxruntimeVersion, process.arch, cpuFeatures(), sortedKeys(options)]));
    return key.digest('hex');
  }
}

function whyNotShared({ format }: ModelReference, options: SessionSettings): string | undefined {
  const other = providersOf(options).find((name) => name !== 'cpu');
  if (other !== undefined) return `the execution provider ${other} has weights of its own`;
  if (format === 'ort') return 'a model in the ORT format cannot be compiled again';
  return options['optimizedModelFilePath'] === undefined
    ? undefined
    : 'its session writes it to optimizedModelFilePath';
}

/** The features of the CPU, to which an optimised graph is bound. */
function cpuFeatures(): string {
  try {
    return /^(?:flags|Features)\s*:.*$/m.exec(readFileSync('/proc/cpuinfo', 'latin1'))?.[0] ?? '';
  } catch (error) {
    undefinedIfNotThere(error);
    return cpus()[0]?.model ?? '';
  }
}

/** `auto` says that infermux chooses. A wide session of the model shares its weights with the others. */
function withoutAuto({ intraOpNumThreads, ...others }: SessionSettings): SessionSettings {
  return intraOpNumThreads === undefined || intraOpNumThreads === 'auto' ? others : { intraOpNumThreads, ...others };
}

function sortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortedKeys);
  if (!isPlain(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sortedKeys(value[key])]),
  );
}

/** Returns what the file system says of the file; undefined when it is gone. */
function statOf(id: string, path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (cause) {
    if (isNotThere(cause)) return undefined;
    throw lookFailed('MODEL_LOAD_FAILED', `model ${show(id)}`, cause);
  }
}

/** Whether the error says nothing about the model: the thread must stop, or the system could not answer. */
function isPassing(error: unknown): boolean {
  return isStopping(error) || (error instanceof InfermuxError && error.retryable);
}

function isStopping(error: unknown): boolean {
  return error instanceof InfermuxError && error.code === 'REPLICA_FAILED';
}
