import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { cpus } from 'node:os';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { undefinedIfNotThere } from '../../common/files/system-errors.js';
import { type ModelReference, narrowKeyOf } from '../../contracts/model-reference.js';
import { isPlain } from '../../contracts/session-settings.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { OnnxSession, onnxruntimeVersion, type SessionSettings } from '../sessions/onnx-session.js';
import type { FileHashes } from './file-hashes.js';
import { STORE_FORMAT, type StoreEntry, type WeightStore } from './weight-store.js';

/** Sharing less is not worth the files: a session takes as much memory beside its weights. */
export const LEAST_SHARED_BYTES = 2 ** 20;

export interface SharedWeightsEnvironment {
  readonly counters: ReplicaCounters;
  readonly store: WeightStore;
  readonly hashes: FileHashes;
  /** Called when a model was compiled for the store; when it throws, nothing is stored. */
  compiled(model: ModelReference, milliseconds: number): void | Promise<void>;
}

export interface ModelEntry extends StoreEntry {
  readonly key: string;
}

/** Finds the entry of a model and its session settings in the weight store, or makes it. */
export class SharedWeights {
  readonly #environment: SharedWeightsEnvironment;

  constructor(environment: SharedWeightsEnvironment) {
    this.#environment = environment;
  }

  /**
   * Returns the model's entry if no file needs to be read for it, because all were read before.
   *
   * @throws Error when the system cannot say.
   */
  async known(model: ModelReference, options: SessionSettings): Promise<ModelEntry | undefined> {
    const { store, hashes } = this.#environment;
    const own = model.contents
      ? [hashes.knownContents(narrowKeyOf(model.key))]
      : await Promise.all(filesOf(model).map((file) => hashes.known(file)));
    if (!areKnown(own)) return undefined;
    const key = keyOf(own, options);
    const entry = await store.known(key);
    return entry && { key, ...entry };
  }

  /**
   * Returns the model's entry, compiled now if there is none.
   *
   * @param checkGoOn throws when a wait for another thread, which compiles the model, should end.
   * @throws InfermuxError `FAILED_PRECONDITION` when the store cannot be used, `REPLICA_FAILED` when the thread must stop;
   *   Error when the model's files cannot be read.
   */
  async find(model: ModelReference, options: SessionSettings, checkGoOn: () => void): Promise<ModelEntry> {
    const key = await this.#keyOf(model, options);
    let ofModel: unknown;
    const build = async (into: string) => {
      try {
        const declined = await this.#compile(model, options, into);
        // The entry must not hold another file than the one that it is named after.
        if ((await this.#keyOf(model, options)) !== key) throw new Error('its files changed while it was compiled');
        return declined;
      } catch (error) {
        ofModel = error;
        throw error;
      }
    };
    try {
      return { key, ...(await this.#environment.store.find(key, build, checkGoOn)) };
    } catch (cause) {
      if (cause === ofModel || isStopping(cause)) throw cause;
      throw new InfermuxError('FAILED_PRECONDITION', messageOf(cause), { cause });
    }
  }

  /** Replaces the entry by the reason not to use it. */
  decline({ key }: ModelEntry, reason: string): Promise<void> {
    return this.#environment.store.decline(key, reason);
  }

  async #keyOf(model: ModelReference, options: SessionSettings): Promise<string> {
    const { hashes } = this.#environment;
    if (model.contents !== undefined)
      return keyOf([hashes.ofContents(narrowKeyOf(model.key), model.contents)], options);
    const own: string[] = [];
    for (const file of filesOf(model)) own.push(await hashes.of(file));
    return keyOf(own, options);
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
    await compiled(model, performance.now() - startedAt);
    const bytes = (await stat(weights).catch(undefinedIfNotThere))?.size ?? 0;
    return bytes < LEAST_SHARED_BYTES ? `only ${bytes} bytes of it could be shared` : undefined;
  }
}

/** Whether the error says nothing about the model: the thread must stop, or the system could not answer. */
export function isPassing(error: unknown): boolean {
  return isStopping(error) || (error instanceof InfermuxError && error.retryable);
}

/** Whether the error says that the thread must stop. */
export function isStopping(error: unknown): boolean {
  return error instanceof InfermuxError && error.code === 'REPLICA_FAILED';
}

function filesOf({ path, externalData = [] }: ModelReference): string[] {
  return [path, ...externalData];
}

function areKnown(hashes: readonly (string | undefined)[]): hashes is readonly string[] {
  return !hashes.includes(undefined);
}

/** Returns a hash of all that the compiled model depends on. @param own hashes of the model's files. */
function keyOf(own: readonly string[], options: SessionSettings): string {
  const rest = [STORE_FORMAT, onnxruntimeVersion, process.arch, cpuFeatures(), sortedKeys(options)];
  return createHash('sha256').update(own.join('')).update(JSON.stringify(rest)).digest('hex');
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

function sortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortedKeys);
  if (!isPlain(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sortedKeys(value[key])]),
  );
}
