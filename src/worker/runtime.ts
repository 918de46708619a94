import { readFileSync } from 'node:fs';
import { toInfermuxError } from '../common/errors.js';
import { toErrorRecord } from '../common/values/error-record.js';
import type { LogFields } from '../contracts/handler.js';
import type { ReplicaEvent } from '../protocol/events.js';
import { HashMemory } from '../protocol/hash-memory.js';
import type { DefinedModel, HelloAnswer, WorkerSettings } from '../protocol/messages.js';
import type { ReplicaCounters } from '../protocol/queue-counters.js';
import { HandlerHost } from './handlers/handler-host.js';
import { HandlerModelLoader } from './handlers/handler-model-loader.js';
import { importHandler } from './handlers/handler-module.js';
import { JoinedRuns } from './handlers/joined-runs.js';
import { ModelRuns } from './handlers/model-runs.js';
import type { EngineRuns } from './handlers/requests/engine-runs.js';
import type { Copy } from './handlers/requests/item-stream.js';
import { OngoingRequests } from './handlers/requests/ongoing-requests.js';
import { nativeCall } from './native-call.js';
import { Executor } from './runs/executor.js';
import { createEviction } from './sessions/eviction-policies.js';
import { ModelMultiplexer, type MultiplexerEvents } from './sessions/model-multiplexer.js';
import { bundledProviders, countForeignCalls, onnxruntimeVersion, startOnnxruntime } from './sessions/onnx-session.js';
import { OnnxSessionLoader } from './sessions/session-loader.js';
import { FileHashes } from './weights/file-hashes.js';
import { SharedWeights } from './weights/shared-weights.js';
import { rememberedHashes, WeightStore } from './weights/weight-store.js';

/** The parts of a replica's thread that need onnxruntime-node. */
export interface Runtime {
  readonly models: ModelMultiplexer;
  readonly executor: Executor;
  /** Undefined when requests are feeds of models. */
  readonly handler: HandlerHost | undefined;
  readonly hello: HelloAnswer;
}

export interface RuntimeEnvironment {
  readonly counters: ReplicaCounters;
  post(event: ReplicaEvent): void;
  /** Finds a model of the engine by the name that users give it. */
  resolve(target: string): Promise<DefinedModel>;
  readonly engineRuns: EngineRuns;
  /** Copies what a handler answers with. */
  readonly copy: Copy;
}

/**
 * Loads onnxruntime-node and the handler's module, if there is one.
 *
 * @throws InfermuxError `REPLICA_FAILED` for an invalid handler, `FAILED_PRECONDITION` if it refuses its configuration.
 */
export async function startRuntime(settings: WorkerSettings, environment: RuntimeEnvironment): Promise<Runtime> {
  const { counters, post } = environment;
  // The thread must not be ended while onnxruntime starts.
  await nativeCall(counters, startOnnxruntime);
  const now = () => performance.now();
  const { replica, maxModels, maxModelBytes: maxBytes, modelIdleTimeoutMs: idleTimeoutMs, userConfig } = settings;
  const hashes = new FileHashes(new HashMemory(settings.fileHashes), rememberedHashes(settings.weightStore));
  const log = (level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string) =>
    post({ kind: 'log', level, message, fields });
  const sessions = new OnnxSessionLoader(settings, {
    counters,
    hashes,
    shared: new SharedWeights({
      ...{ counters, hashes, store: new WeightStore(settings.weightStore, hashes) },
      compiled: ({ id }, compileMs) => log('info', { model: id, compileMs }, 'model compiled for the weight store'),
    }),
    availableMemory: () => process.availableMemory(),
    notShared: ({ id }, reason) => log('warn', { model: id, reason }, 'the weights of the model are not shared'),
  });
  // Before the import: the module may call onnxruntime-node as soon as it runs.
  if (settings.handler !== undefined) countForeignCalls(counters);
  const module = settings.handler === undefined ? undefined : await importHandler(settings.handler);
  const eviction = createEviction(settings.eviction, now);
  const events = reportTo(post, counters);
  const ongoing = new OngoingRequests();
  const late = (key: string, disposed: Promise<void>) =>
    ongoing.goesOn(disposed.catch((error) => events.releaseFailed(key, error)));
  const loader =
    module === undefined ? sessions : new HandlerModelLoader(module, sessions, settings.handlerTimeouts, late);
  const models = new ModelMultiplexer({ maxModels, maxBytes, idleTimeoutMs, eviction }, loader, events, now);
  const { resolve, engineRuns, copy } = environment;
  const sendItems = (ticket: number, items: readonly unknown[]) => post({ kind: 'items', ticket, items });
  const executor = new Executor(models, now);
  const isStopping = () => counters.isStopping;
  const ran = (key: string, rows: number, runMs: number) => post({ kind: 'model-ran', key, rows, runMs });
  const runs = new ModelRuns(models, new JoinedRuns(executor), { counters, now, ran });
  const handler =
    module === undefined
      ? undefined
      : new HandlerHost(
          module,
          models,
          { replica, resolve, now, isStopping, log, runs, engineRuns, sendItems, copy },
          ongoing,
        );
  if (userConfig !== undefined) await handler?.reconfigure(userConfig);
  return {
    models,
    executor,
    handler,
    hello: { onnxruntimeVersion, providers: bundledProviders, handler: handler?.abilities },
  };
}

function reportTo(post: (event: ReplicaEvent) => void, counters: ReplicaCounters): MultiplexerEvents {
  let memoryBefore = 0;
  return {
    loading: ({ key, id, bytes }) => {
      memoryBefore = ownMemory();
      post({ kind: 'model-loading', key, id, bytes });
    },
    loaded: ({ key, bytes }, { metadata, weights = 'private', preparationMs = 0 }, loadMs) => {
      const memoryBytes = ownMemory() - memoryBefore;
      const nextLoadMs = loadMs - preparationMs;
      post({ kind: 'model-loaded', key, loadMs, nextLoadMs, bytes, memoryBytes, weights, metadata });
    },
    changedOver: ({ key }, loadMs) => post({ kind: 'model-shares', key, loadMs }),
    loadFailed: (key, error, loadMs, nextTryInMs) =>
      post({ kind: 'model-load-failed', key, loadMs, error: toErrorRecord(error), nextTryInMs }),
    unloaded: (key, reason, unloadMs, idleMs) => post({ kind: 'model-unloaded', key, reason, unloadMs, idleMs }),
    releaseFailed: (key, error) => post({ kind: 'release-failed', key, error: toErrorRecord(toInfermuxError(error)) }),
    resident: (_models, bytes) => counters.setBytes(bytes),
  };
}

/** Bytes of the process that are in no file: mapped files of the weight store and external data do not count. */
function ownMemory(): number {
  try {
    const kilobytes = /^RssAnon:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
    if (kilobytes !== undefined) return 1_024 * Number(kilobytes);
  } catch {
    // Only Linux has this file.
  }
  try {
    return process.memoryUsage.rss();
  } catch {
    // It opens a file, and too many may be open. A figure is no reason to fail a load.
    return 0;
  }
}
