import { join } from 'node:path';
import { getSystemErrorMap, types } from 'node:util';
import * as ort from 'onnxruntime-node';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { isNotThere } from '../../common/files/system-errors.js';
import type { ModelReference, SessionWeights } from '../../contracts/model-reference.js';
import { providersOf } from '../../contracts/session-settings.js';
import { type ReplicaCounters, STOP_LEVELS, type StopLevel } from '../../protocol/queue-counters.js';
import { takesShared } from '../../tensors/memory/size-class.js';
import {
  type ModelMetadata,
  type Outputs,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorFeeds,
} from '../../tensors/tensor.js';
import { nativeCall, stopping } from '../native-call.js';
import { CallMemory } from '../runs/call-memory.js';
import type { Session } from './session.js';
import { readMetadata, whyNotServed } from './session-metadata.js';

// Errors come as exceptions: the environment must not write them to stderr as well.
ort.env.logLevel = 'fatal';

/** Errors come as exceptions, so nothing is logged. */
const SESSION_DEFAULTS = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 4 } as const;
/**
 * Without it the threads of a session spin for a while after each run, which takes the cores from everybody else. Runs
 * that are long enough for several threads are as fast without.
 */
const NO_SPINNING = { 'session.intra_op.allow_spinning': '0' };

export const onnxruntimeVersion: string = ort.env.versions.node ?? ort.env.versions.common;

/**
 * Starts onnxruntime's environment. This takes some 50 ms once in a process, which the first load would otherwise pay
 * and measure. There is no call for it: an attempt to load an empty model starts it and fails.
 */
export async function startOnnxruntime(): Promise<void> {
  await ort.InferenceSession.create(new Uint8Array(0), SESSION_DEFAULTS).catch(() => undefined);
}

/**
 * Announces a handler's own calls of onnxruntime-node, too: the thread must not be ended in them either. This works as
 * long as the handler imports the same module.
 */
export function countForeignCalls(counters: ReplicaCounters): void {
  const announced = (object: object, name: string, highest?: StopLevel) => {
    const methods = object as Record<string, (...args: unknown[]) => Promise<unknown>>;
    const original = methods[name];
    if (original === undefined) return;
    methods[name] = function (this: unknown, ...args: unknown[]) {
      return nativeCall(counters, () => original.apply(this, args), highest);
    };
  };
  const { prototype } = ort.InferenceSession as unknown as { prototype: object };
  announced(ort.InferenceSession, 'create');
  announced(prototype, 'run');
  announced(prototype, 'release', STOP_LEVELS.stopping);
}

/** Execution providers that onnxruntime-node knows on this system. Only a `bundled` one is sure to work. */
const supportedProviders: readonly { name: string; bundled: boolean }[] = ort.listSupportedBackends();

export const bundledProviders: readonly string[] = supportedProviders
  .filter(({ bundled }) => bundled)
  .map(({ name }) => name);

/** Passed through to `InferenceSession.create`. */
export type SessionSettings = Readonly<Record<string, unknown>>;

/** Names of the files of a compiled model. */
export const COMPILED = { model: 'model.onnx', weights: 'weights.bin' } as const;
/** Smaller weights fill no page of memory, and stay in the model. */
const LEAST_MAPPED_BYTES = 1_024;

export interface CompiledModel {
  readonly path: string;
  /** Milliseconds that it took to find or to make it. */
  readonly preparationMs: number;
}

/** A model loaded by onnxruntime-node, which this file alone imports. Each native call is announced in the counters. */
export class OnnxSession implements Session {
  readonly metadata: ModelMetadata;
  readonly weights: SessionWeights;
  readonly preparationMs: number;
  readonly #id: string;
  readonly #session: ort.InferenceSession;
  /** Names of the outputs of a request that names none. */
  readonly #outputs: readonly string[];
  readonly #counters: ReplicaCounters;

  private constructor(
    { id }: ModelReference,
    session: ort.InferenceSession,
    counters: ReplicaCounters,
    compiled: CompiledModel | undefined,
  ) {
    this.#id = id;
    this.#session = session;
    this.#counters = counters;
    this.metadata = readMetadata(session);
    this.weights = compiled === undefined ? 'private' : 'shared';
    this.preparationMs = compiled?.preparationMs ?? 0;
    this.#outputs = this.metadata.outputs.map(({ name }) => name);
  }

  /**
   * Loads a model.
   *
   * @param compiled what {@link compile} wrote with the same options is loaded instead.
   * @throws InfermuxError `MODEL_LOAD_FAILED` with the reason; `REPLICA_FAILED` when the thread must stop.
   */
  static async load(
    model: ModelReference,
    options: SessionSettings,
    counters: ReplicaCounters,
    compiled?: CompiledModel,
  ): Promise<OnnxSession> {
    const session = await (compiled === undefined
      ? createSession(model, options, counters)
      : // It is optimised already: a second time would change nothing.
        createSession(
          { ...model, path: compiled.path, contents: undefined },
          { ...options, graphOptimizationLevel: 'disabled' },
          counters,
        ));
    const reason = whyNotServed(session);
    if (reason !== undefined) {
      await nativeCall(counters, () => session.release());
      throw new InfermuxError('MODEL_LOAD_FAILED', `model ${show(model.id)}: ${reason}`);
    }
    return new OnnxSession(model, session, counters, compiled);
  }

  /**
   * Optimises a model for this machine and these options, and writes it into the folder. Its weights, packed as the
   * kernels want them, go into a file of their own, which sessions map.
   *
   * @returns paths of model and weights. A model with hardly any weights has no weights file.
   * @throws InfermuxError as {@link load}.
   */
  static async compile(
    model: ModelReference,
    options: SessionSettings,
    counters: ReplicaCounters,
    folder: string,
  ): Promise<{ path: string; weights: string }> {
    const path = join(folder, COMPILED.model);
    const session = await createSession(model, compileOptions(options, path), counters);
    await nativeCall(counters, () => session.release());
    return { path, weights: join(folder, COMPILED.weights) };
  }

  /** @throws InfermuxError `INFERENCE_FAILED` with onnxruntime's reason, `REPLICA_FAILED` when the thread must stop. */
  async run(feeds: TensorFeeds, outputs: readonly string[] | undefined): Promise<Outputs> {
    // Plain objects serve as tensors for every type; an ort.Tensor of float16 breaks on Node 24.
    const inputs: Record<string, object> = {};
    let memory: CallMemory | undefined;
    for (const { name } of this.metadata.inputs) {
      const { type, dims, data } = feeds[name] as Tensor;
      let readable = data;
      if (!takesShared && isShared(data)) {
        memory ??= new CallMemory();
        readable = memory.copy(type, [data]);
      }
      setProperty(inputs, name, { type, dims, data: readable, location: 'cpu' });
    }
    if (!this.#counters.enterNativeCall()) throw stopping();
    let results: ort.InferenceSession.ReturnType;
    try {
      const names = outputs ?? this.#outputs;
      results = await inThisTurn(() => this.#session.run(inputs as ort.InferenceSession.FeedsType, names));
    } catch (cause) {
      throw new InfermuxError('INFERENCE_FAILED', `model ${show(this.#id)}: ${messageOf(cause)}`, { cause });
    } finally {
      this.#counters.leaveNativeCall();
      memory?.release();
    }
    const read: Record<string, Tensor> = {};
    for (const name in results) setProperty(read, name, readOutput(results[name] as ort.Tensor));
    return read;
  }

  /** Frees the session's memory. Call it once, with no run under way. */
  async release(): Promise<void> {
    await nativeCall(this.#counters, () => this.#session.release(), STOP_LEVELS.stopping);
  }
}

async function createSession(
  model: ModelReference,
  options: SessionSettings,
  counters: ReplicaCounters,
): Promise<ort.InferenceSession> {
  const providers = providersOf(options);
  const where = `model ${show(model.id)}`;
  const unknown = providers.find((name) => !supportedProviders.some((provider) => provider.name === name));
  if (unknown !== undefined) {
    const message = `${where}: execution provider ${show(unknown)} is not available; ${describeProviders()}`;
    throw new InfermuxError('MODEL_LOAD_FAILED', message);
  }
  const all = { ...SESSION_DEFAULTS, ...withThreads(options, model.threads) };
  const { path, contents } = model;
  try {
    return await nativeCall(counters, () =>
      contents === undefined
        ? ort.InferenceSession.create(path, all)
        : // onnxruntime-node refuses shared memory.
          ort.InferenceSession.create(new Uint8Array(contents).slice(), all),
    );
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    const said = messageOf(cause);
    const passing = systemErrorIn(said);
    const hint = passing ?? hintFor(said, model, providers);
    const retryable = passing !== undefined;
    throw new InfermuxError('MODEL_LOAD_FAILED', `${where}: ${said}${hint}`, { cause, retryable });
  }
}

/** Returns the options for a wide session with so many threads; undefined for a narrow session. */
function withThreads(options: SessionSettings, threads: number | undefined): SessionSettings {
  if (threads === undefined) return options;
  const extra = options['extra'] as { session?: Readonly<Record<string, string>> } | undefined;
  return {
    ...{ ...options, intraOpNumThreads: threads },
    extra: { ...extra, session: { ...extra?.session, ...NO_SPINNING } },
  };
}

/** The options with which onnxruntime writes the optimised model. */
function compileOptions(options: SessionSettings, path: string): SessionSettings {
  const extra = options['extra'] as { session?: Readonly<Record<string, string>> } | undefined;
  const session = {
    ...extra?.session,
    optimized_model_external_initializers_file_name: COMPILED.weights,
    optimized_model_external_initializers_min_size_in_bytes: String(LEAST_MAPPED_BYTES),
    save_external_prepacked_constant_initializers: '1',
  };
  return { ...options, optimizedModelFilePath: path, extra: { ...extra, session } };
}

/**
 * Makes the call with its immediates run at once. onnxruntime-node blocks its thread during a run, and so delays each
 * run to an immediate, for others that wait for the thread's event loop. Nobody waits for a replica's event loop, and a
 * turn of it takes longer than a small model.
 */
function inThisTurn<T>(call: () => T): T {
  const { setImmediate } = globalThis;
  const atOnce = (callback: (...args: unknown[]) => void, ...args: unknown[]) => callback(...args);
  globalThis.setImmediate = atOnce as unknown as typeof setImmediate;
  try {
    return call();
  } finally {
    globalThis.setImmediate = setImmediate;
  }
}

/** Matches onnxruntime's messages about bytes that are no model, in the ONNX and in the ORT format. */
const NO_MODEL = /Protobuf parsing failed|ModelProto does not have a graph|ORT model verification failed/;

/** Explains what onnxruntime's message leaves open. */
function hintFor(said: string, { path }: ModelReference, providers: readonly string[]): string {
  if (NO_MODEL.test(said)) {
    return ` (${path} is not an ONNX or ORT model, or only part of one: a download cut short, or a pointer to a large file?)`;
  }
  const asked = providers.filter((name) => name !== 'cpu');
  return asked.length === 0 ? '' : ` (execution providers asked for: ${asked.join(', ')}; ${describeProviders()})`;
}

/** Explains the number by which onnxruntime names an error of the system; undefined when its message has none. */
function systemErrorIn(said: string): string | undefined {
  const [, number] = /system error number (\d+)/.exec(said) ?? [];
  const [name, text] = getSystemErrorMap().get(-Number(number)) ?? [];
  if (name === undefined || isNotThere({ code: name })) return undefined;
  return ` (${name}, ${text}: this says nothing about the model; try again later)`;
}

function describeProviders(): string {
  const others = supportedProviders.filter(({ bundled }) => !bundled).map(({ name }) => name);
  const needs = others.length === 0 ? '' : `; ${others.join(', ')} need libraries of their own`;
  return `available here: ${bundledProviders.join(', ')}${needs}`;
}

function isShared(data: TensorData): boolean {
  return ArrayBuffer.isView(data) && types.isSharedArrayBuffer(data.buffer);
}

function readOutput({ type, dims, data }: ort.Tensor): Tensor {
  // float16 is carried as its bits on every version of Node; on 24 onnxruntime returns a Float16Array.
  const carried = type === 'float16' ? bitsOf(data as Uint16Array) : data;
  return { type, dims: dims.slice(), data: carried } as Tensor;
}

function bitsOf(data: Uint16Array): Uint16Array {
  return new Uint16Array(data.buffer, data.byteOffset, data.length);
}
