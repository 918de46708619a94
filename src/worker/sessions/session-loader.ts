import { type BigIntStats, statSync } from 'node:fs';
import { join } from 'node:path';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { areSameStamps, isUntouched } from '../../common/files/file-stamp.js';
import { readOnnxForm } from '../../common/files/onnx-file.js';
import { isNotThere, lookFailed } from '../../common/files/system-errors.js';
import type { ModelReference, WeightPlacement } from '../../contracts/model-reference.js';
import { mergeSettings, onDevice, providersOf, whyNotShared } from '../../contracts/session-settings.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { stopping } from '../native-call.js';
import type { FileHashes } from '../weights/file-hashes.js';
import { isPassing, isStopping, LEAST_SHARED_BYTES, type SharedWeights } from '../weights/shared-weights.js';
import { COMPILED, OnnxSession, type SessionSettings } from './onnx-session.js';
import type { SessionLoader } from './session.js';
import { whyNotServed } from './session-metadata.js';
import { runWarmUps } from './warm-up.js';

/** A load takes up to about four times the bytes of the model's files for a moment; that much more is left to others. */
const BESIDE_TIMES = 4;
const BESIDE_BYTES = 128 * 2 ** 20;

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
  readonly shared: SharedWeights;
  readonly hashes: FileHashes;
  /** Bytes of memory that are still available. */
  availableMemory(): number;
  /** Called when a model is loaded with weights of its own although they were meant to be shared. */
  notShared(model: ModelReference, reason: string): void;
}

/** Loads sessions: checks the files, finds or makes shared weights, and ends with the model's warm-up runs. */
export class OnnxSessionLoader implements SessionLoader {
  readonly #options: SessionLoaderOptions;
  readonly #environment: SessionLoaderEnvironment;

  constructor(options: SessionLoaderOptions, environment: SessionLoaderEnvironment) {
    this.#options = options;
    this.#environment = environment;
  }

  mayLoadBeside(model: ModelReference): boolean {
    // What a device has left is not known.
    if (providersOf(sessionOptions(model, this.#options)).some((name) => name !== 'cpu')) return false;
    return this.#environment.availableMemory() >= BESIDE_BYTES + BESIDE_TIMES * model.bytes;
  }

  async check(model: ModelReference): Promise<void> {
    await this.#checkHashes(model);
    await this.#checkFiles(model);
    const reason = await whyNoModel(model);
    if (reason !== undefined) throw new InfermuxError('MODEL_LOAD_FAILED', `model ${show(model.id)}: ${reason}`);
  }

  /**
   * @throws InfermuxError `MODEL_LOAD_FAILED` with the reason, retryable when it says nothing about the registered files;
   *   `REPLICA_FAILED` when the thread must stop.
   */
  load(model: ModelReference): Promise<OnnxSession> {
    return this.#checked(model, async () => {
      const options = sessionOptions(model, this.#options);
      return (await this.#loadShared(model, options)) ?? OnnxSession.load(model, options, this.#environment.counters);
    });
  }

  /**
   * Loads the model with shared weights if they were prepared meanwhile; undefined otherwise.
   *
   * @throws InfermuxError as {@link load}.
   */
  async loadShared(model: ModelReference): Promise<OnnxSession | undefined> {
    const options = sessionOptions(model, this.#options);
    return this.#checked(model, () => this.#loadShared(model, options));
  }

  async #checked<S extends OnnxSession | undefined>(model: ModelReference, create: () => Promise<S>): Promise<S> {
    let session: S | undefined;
    try {
      await this.#checkHashes(model);
      session = await create();
      if (session === undefined) return session as S;
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
    const { counters, shared, notShared } = this.#environment;
    const placement = model.weights ?? this.#options.weights;
    if (placement === 'private' || model.bytes < LEAST_SHARED_BYTES) return undefined;
    const reason = whyNotShared(model.format, options);
    if (reason !== undefined) {
      if (placement === 'shared') notShared(model, reason);
      return undefined;
    }
    try {
      const startedAt = performance.now();
      const checkGoOn = () => {
        if (counters.isStopping) throw stopping();
      };
      // With `auto` a load takes what is there: it does not wait for what would take longer than a load without it.
      const entry = await (placement === 'auto'
        ? shared.known(model, options)
        : shared.find(model, options, checkGoOn));
      if (entry === undefined) return undefined;
      if (entry.declined !== undefined) {
        if (placement === 'shared') notShared(model, entry.declined);
        return undefined;
      }
      const compiled = { path: join(entry.folder, COMPILED.model), preparationMs: performance.now() - startedAt };
      return await OnnxSession.load(model, options, counters, compiled).catch(async (error) => {
        // The entry was whole, so onnxruntime refuses it; or it was removed meanwhile, which a new try in a day shows.
        if (!isPassing(error)) await shared.decline(entry, messageOf(error));
        throw error;
      });
    } catch (error) {
      if (isStopping(error)) throw error;
      if (placement === 'shared') notShared(model, messageOf(error));
      return undefined;
    }
  }
}

/** What the file's form and its inputs and outputs say against the model; undefined: nothing. */
async function whyNoModel({ id, path, format, contents }: ModelReference): Promise<string | undefined> {
  if (format !== 'onnx') return undefined;
  try {
    const form = await readOnnxForm(path, contents && Buffer.from(contents));
    if (form === 'malformed') return `${path} is not an ONNX model, or only part of one`;
    return form === 'unknown' ? undefined : whyNotServed({ inputMetadata: form.inputs, outputMetadata: form.outputs });
  } catch (cause) {
    throw lookFailed('MODEL_LOAD_FAILED', `model ${show(id)}`, cause);
  }
}

/** Returns the settings for the model's sessions. @param common those of all models, and the device. */
export function sessionOptions(
  { session = {} }: ModelReference,
  { session: common, device }: Pick<SessionLoaderOptions, 'session' | 'device'>,
): SessionSettings {
  const merged = withoutAuto(mergeSettings(common, session));
  return device === undefined ? merged : onDevice(merged, device);
}

/** `auto` says that infermux chooses. A wide session of the model shares its weights with the others. */
function withoutAuto({ intraOpNumThreads, ...others }: SessionSettings): SessionSettings {
  return intraOpNumThreads === undefined || intraOpNumThreads === 'auto' ? others : { intraOpNumThreads, ...others };
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
