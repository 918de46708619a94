import type { ErrorRecord } from '../common/values/error-record.js';
import type { UnloadReason } from '../contracts/eviction.js';
import type { NestedRunOptions } from '../contracts/handler.js';
import type { SessionWeights } from '../contracts/model-reference.js';
import type { ModelMetadata } from '../tensors/tensor.js';

/** What can be cloned of the options; the thread minds the signal. */
export type SentRunOptions = Omit<NestedRunOptions, 'signal'>;

/** An event is posted at once, even if the thread is about to block in a load. */
export type ReplicaEvent =
  | { readonly kind: 'model-loading'; readonly key: string; readonly id: string; readonly bytes: number }
  | {
      readonly kind: 'model-loaded';
      readonly key: string;
      readonly loadMs: number;
      /** Milliseconds that another load of the model is expected to take: without what was prepared for all. */
      readonly nextLoadMs: number;
      readonly bytes: number;
      /** Growth of the process's memory during the load. */
      readonly memoryBytes: number;
      readonly weights: SessionWeights;
      readonly metadata: ModelMetadata;
    }
  /** The model's session gave way to one with shared weights, which took so long to load. */
  | { readonly kind: 'model-shares'; readonly key: string; readonly loadMs: number }
  | {
      readonly kind: 'model-load-failed';
      readonly key: string;
      readonly loadMs: number;
      readonly error: ErrorRecord;
      /** How long the failure is remembered. */
      readonly nextTryInMs: number;
    }
  | {
      readonly kind: 'model-unloaded';
      readonly key: string;
      readonly reason: UnloadReason;
      readonly unloadMs: number;
      /** Milliseconds since it was last used. */
      readonly idleMs: number;
    }
  /** A session that has left could not be released; its memory may stay. */
  | { readonly kind: 'release-failed'; readonly key: string; readonly error: ErrorRecord }
  /** A handler's request ran the model, and no other request was at work. The key is that of the session. */
  | { readonly kind: 'model-ran'; readonly key: string; readonly rows: number; readonly runMs: number }
  /** The handler asks for a model by the name that users give it. A `define` with this number answers it. */
  | { readonly kind: 'model-wanted'; readonly wanted: number; readonly target: string }
  /** Items of the stream that answers the request. */
  | { readonly kind: 'items'; readonly ticket: number; readonly items: readonly unknown[] }
  /** The handler's request runs something in the engine. An `engine-answer` with this number answers it. */
  | {
      readonly kind: 'engine-run';
      readonly run: number;
      readonly ticket: number;
      readonly target: string;
      readonly request: unknown;
      readonly options: SentRunOptions | undefined;
    }
  /** The handler gave up the run. */
  | { readonly kind: 'engine-cancel'; readonly run: number }
  | {
      readonly kind: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: Readonly<Record<string, string | number | boolean>>;
    };
