import type { ErrorRecord } from '../../../common/values/error-record.js';
import type { ModelFiles } from '../../sources/model-files.js';
import type { WantedModel } from '../model-cache.js';
import type { SignedRequest } from '../remote-file.js';

/** A model on a server, as it goes to the thread. */
export interface SentRemoteModel extends WantedModel {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Whether each request is to be signed. */
  readonly isSigned: boolean;
  readonly allowHttp: boolean;
}

/** A model in the cache. */
export interface KeptModel {
  readonly path: string;
  readonly files: ModelFiles;
}

export type Outcome<T> = { readonly value: T } | { readonly error: ErrorRecord };

/** What the thread cannot do by itself. */
export type Question =
  /** The next piece of the call's stream; undefined at its end. */
  | { readonly kind: 'piece'; readonly call: number }
  | {
      readonly kind: 'sign';
      readonly call: number;
      readonly url: string;
      readonly headers: Readonly<Record<string, string>>;
    }
  /** Whether the folder may be removed: no model names its files from then on. */
  | { readonly kind: 'release'; readonly folder: string };

export type ToCache =
  | { readonly kind: 'fetch'; readonly call: number; readonly model: SentRemoteModel }
  | { readonly kind: 'keep'; readonly call: number; readonly model: WantedModel }
  | { readonly kind: 'remove'; readonly call: number; readonly folder: string }
  | { readonly kind: 'used'; readonly path: string }
  /** The model is used, or not wanted: until then its files stay. */
  | { readonly kind: 'settle'; readonly path: string }
  | { readonly kind: 'abort'; readonly call: number; readonly reason: ErrorRecord }
  | { readonly kind: 'answer'; readonly question: number; readonly outcome: Outcome<unknown> };

export type FromCache =
  | { readonly kind: 'done'; readonly call: number; readonly outcome: Outcome<KeptModel | undefined> }
  | { readonly kind: 'received'; readonly bytes: number }
  | { readonly kind: 'question'; readonly question: number; readonly asked: Question };

/** A signed request, as it goes to the thread. */
export type SentSignature = Pick<SignedRequest, 'url'> & {
  readonly url: string;
  readonly headers: Record<string, string>;
};
