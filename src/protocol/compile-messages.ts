import type { ModelReference } from '../contracts/model-reference.js';
import type { WeightStoreSettings } from './messages.js';

/** What the process that compiles a model for the weight store is asked for. */
export interface CompileRequest {
  /** Without `contents`: the bytes of a model in memory come over the process's stdin. */
  readonly model: ModelReference;
  /** Bytes of the model if it is in memory; undefined when it is in files. */
  readonly contentBytes: number | undefined;
  /** Settings of sessions, for models that set none, key by key. */
  readonly session: Readonly<Record<string, unknown>>;
  readonly weightStore: WeightStoreSettings;
}

/** A message of that process. */
export type CompileMessage =
  /** Something is about to be written: all that is left behind if the process ends in between. */
  { readonly kind: 'building'; readonly paths: readonly string[] } | CompileResult;

export type CompileResult =
  /** The entry is there. With the hashes that prove it, so that no replica needs to read the files. */
  | {
      readonly kind: 'ready';
      readonly hashes: readonly (readonly [Uint8Array, Uint8Array])[];
      readonly compileMs: number;
    }
  /** The model is better loaded without the store. */
  | { readonly kind: 'declined'; readonly reason: string }
  /** The model cannot be compiled at present, whatever the store is like. */
  | { readonly kind: 'postponed'; readonly reason: string }
  /** The store cannot be used. */
  | { readonly kind: 'failed'; readonly reason: string };
