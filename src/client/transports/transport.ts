import type { TraceContext } from '../../contracts/trace-context.js';
import { NEVER, REQUEST_ID, RETRY } from '../../open-inference/own-keys.js';
import type { Outputs, Tensor } from '../../tensors/tensor.js';

/** The terms of a request that go to the server. */
export interface CallTerms {
  readonly signal: AbortSignal | undefined;
  /** Milliseconds as of `Date.now()`; undefined: none. */
  readonly deadline: number | undefined;
  readonly requestId: string | undefined;
  readonly traceContext: TraceContext | undefined;
  /** Whether it may run twice. Undefined: it may. */
  readonly isIdempotent?: boolean;
}

/** A request for tensors. */
export interface InferCall extends CallTerms {
  readonly name: string;
  readonly inputs: readonly { readonly name: string; readonly tensor: Tensor }[];
  readonly outputs: readonly string[] | undefined;
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
}

export interface InferReply {
  readonly outputs: Outputs;
  readonly model: string;
  readonly version: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** What a handler has answered that is no object of tensors; undefined for tensors. */
  readonly json: { readonly value: unknown } | undefined;
}

/** A request for a handler. */
export interface HandlerCall extends CallTerms {
  readonly name: string;
  readonly request: unknown;
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
}

/** One input or output as the server tells it. */
export interface WireMetadata {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly (number | string)[];
}

export interface ModelInfo {
  readonly name: string;
  readonly versions?: readonly string[];
  readonly platform: string;
  readonly inputs: readonly WireMetadata[];
  readonly outputs: readonly WireMetadata[];
}

export interface IndexInfo {
  readonly name: string;
  readonly version?: string;
  readonly state?: string;
  readonly reason?: string;
}

/** Speaks one protocol with one server. Errors are of `InfermuxError`. */
export interface Transport {
  infer(call: InferCall): Promise<InferReply>;
  generateStream(call: HandlerCall): AsyncGenerator<unknown>;
  isReady(name: string | undefined, terms: CallTerms): Promise<boolean>;
  metadata(name: string, terms: CallTerms): Promise<ModelInfo>;
  index(terms: CallTerms): Promise<readonly IndexInfo[]>;
  load(name: string, terms: CallTerms): Promise<void>;
  unload(name: string, terms: CallTerms): Promise<void>;
  close(): Promise<void>;
}

/** Headers or metadata that go with each request. */
export interface Credentials {
  readonly apiKey?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** PEM texts: of who signs the server's certificate, and the client's own. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
}

/** The headers of a client, with its key. */
export function headersOf({ apiKey, headers = {} }: Credentials): Readonly<Record<string, string>> {
  return apiKey === undefined ? headers : { ...headers, authorization: `Bearer ${apiKey}` };
}

/** What a request says of itself in its headers, or in its metadata. All its tries say the same. */
export function headersOfTerms({ requestId, traceContext, isIdempotent }: CallTerms): Record<string, string> {
  const headers: Record<string, string> = {};
  if (requestId !== undefined) headers[REQUEST_ID] = requestId;
  if (isIdempotent === false) headers[RETRY] = NEVER;
  if (traceContext === undefined) return headers;
  const { traceparent, tracestate } = traceContext;
  headers['traceparent'] = traceparent;
  if (tracestate !== undefined) headers['tracestate'] = tracestate;
  return headers;
}
