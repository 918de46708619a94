import { readFileSync } from 'node:fs';
import { messageOf } from '../errors.js';
import { toErrorRecord } from '../protocol/error-record.js';
import { HashMemory } from '../protocol/hash-memory.js';
import type { HelloAnswer, ReplicaEvent, WorkerSettings } from '../protocol/messages.js';
import type { ReplicaCounters } from '../protocol/queue-counters.js';
import { Executor } from './executor.js';
import { FileHashes } from './file-hashes.js';
import { ModelMultiplexer, type MultiplexerEvents } from './model-multiplexer.js';
import { bundledProviders, onnxruntimeVersion, startOnnxruntime } from './onnx-session.js';
import { OnnxSessionLoader } from './session-loader.js';
import { WeightStore } from './weight-store.js';

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
  const { maxModels, maxModelBytes: maxBytes, modelIdleTimeoutMs: idleTimeoutMs } = settings;
  const hashes = new FileHashes(new HashMemory(settings.fileHashes));
  const log = (level: 'info' | 'warn', fields: Readonly<Record<string, string | number>>, message: string) =>
    post({ kind: 'log', level, message, fields });
  const loader = new OnnxSessionLoader(settings, {
    counters,
    hashes,
    store: new WeightStore(settings.weightStore, hashes),
    notShared: ({ id }, reason) => log('warn', { model: id, reason }, 'the weights of the model are not shared'),
    compiled: ({ id }, compileMs) => log('info', { model: id, compileMs }, 'model compiled for the weight store'),
  });
  const models = new ModelMultiplexer({ maxModels, maxBytes, idleTimeoutMs }, loader, reportTo(post, counters), now);
  return {
    models,
    executor: new Executor(models, now),
    hello: { onnxruntimeVersion, providers: bundledProviders },
  };
}

function reportTo(post: (event: ReplicaEvent) => void, counters: ReplicaCounters): MultiplexerEvents {
  let memoryBefore = 0;
  return {
    loading: (key) => {
      memoryBefore = ownMemory();
      post({ kind: 'model-loading', key });
    },
    loaded: ({ key, bytes }, { metadata }, loadMs) => {
      const memoryBytes = ownMemory() - memoryBefore;
      post({ kind: 'model-loaded', key, loadMs, bytes, memoryBytes, metadata });
    },
    loadFailed: (key, error, loadMs, nextTryInMs) =>
      post({ kind: 'model-load-failed', key, loadMs, error: toErrorRecord(error), nextTryInMs }),
    unloaded: (key, reason, unloadMs, idleMs) => post({ kind: 'model-unloaded', key, reason, unloadMs, idleMs }),
    releaseFailed: (key, error) =>
      post({ kind: 'log', level: 'warn', message: 'session not released', fields: { key, reason: messageOf(error) } }),
    resident: (_models, bytes) => counters.setBytes(bytes),
  };
}

/** Bytes of the process that are in no file: what sessions map of the weight store or of their external data does not count. */
function ownMemory(): number {
  try {
    const kilobytes = /^RssAnon:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
    if (kilobytes !== undefined) return 1_024 * Number(kilobytes);
  } catch {
    // Linux alone tells it.
  }
  return process.memoryUsage.rss();
}
