import { messageOf } from '../errors.js';
import { toErrorRecord } from '../protocol/error-record.js';
import type { HelloAnswer, ReplicaEvent, WorkerSettings } from '../protocol/messages.js';
import type { ReplicaCounters } from '../protocol/queue-counters.js';
import { Executor } from './executor.js';
import { ModelMultiplexer, type MultiplexerEvents } from './model-multiplexer.js';
import { bundledProviders, OnnxSession, onnxruntimeVersion, startOnnxruntime } from './onnx-session.js';

/** What a replica's thread works with, once onnxruntime-node is loaded. */
export interface Runtime {
  readonly models: ModelMultiplexer;
  readonly executor: Executor;
  readonly hello: HelloAnswer;
}

export async function startRuntime(
  settings: WorkerSettings,
  counters: ReplicaCounters,
  post: (event: ReplicaEvent) => void,
): Promise<Runtime> {
  await startOnnxruntime();
  const now = () => performance.now();
  const models = new ModelMultiplexer(
    { maxModels: settings.maxModels, maxBytes: settings.maxModelBytes, idleTimeoutMs: settings.modelIdleTimeoutMs },
    {
      sizeOf: (model) => OnnxSession.sizeOf(model),
      load: (model, bytes) => OnnxSession.load(model, bytes, settings.session, counters),
    },
    reportTo(post, counters),
    now,
  );
  return {
    models,
    executor: new Executor(models, now),
    hello: { onnxruntimeVersion, providers: bundledProviders },
  };
}

function reportTo(post: (event: ReplicaEvent) => void, counters: ReplicaCounters): MultiplexerEvents {
  return {
    loading: (key) => post({ kind: 'model-loading', key }),
    loaded: (key, { bytes, metadata }, loadMs) => post({ kind: 'model-loaded', key, loadMs, bytes, metadata }),
    loadFailed: (key, error, loadMs) => post({ kind: 'model-load-failed', key, loadMs, error: toErrorRecord(error) }),
    unloaded: (key, reason, unloadMs) => post({ kind: 'model-unloaded', key, reason, unloadMs }),
    releaseFailed: (key, error) =>
      post({ kind: 'log', level: 'warn', message: 'session not released', fields: { key, reason: messageOf(error) } }),
    resident: (_models, bytes) => counters.setBytes(bytes),
  };
}
