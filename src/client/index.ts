/// <reference types="node" preserve="true" />
/**
 * A client of servers of the Open Inference Protocol.
 *
 * @module infermux/client
 */
import { check, checkOptions, isInteger, isMilliseconds, isObject, isText, type Rule } from '../common/checks.js';
import { InfermuxError, show } from '../common/errors.js';
import { checkByteOrder } from '../open-inference/raw-tensors.js';
import type { AnyModels, ModelTypes } from '../tensors/model-types.js';
import { InferenceClient } from './client.js';
import type { Transport } from './transports/transport.js';

export { ERROR_CODES, type ErrorCode, InfermuxError } from '../common/errors.js';
export type { RunOptions } from '../contracts/run-options.js';
export type { InferenceResult, InferenceTimings } from '../index.js';
export type { AnyModels, FeedOf, ModelTypes } from '../tensors/model-types.js';
export type { Feeds, Outputs, Tensor, TensorInput, TensorType, ValueMetadata } from '../tensors/tensor.js';
export type { ClientRequest, InferenceClient } from './client.js';
export type { ClientModels, DescribedModel, ListedModel } from './client-models.js';

export interface ConnectOptions {
  /** Sent as `Authorization: Bearer`. Default: none. */
  readonly apiKey?: string | undefined;
  /** Additional headers, or metadata in gRPC. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Maximum number of REST connections. gRPC uses one. Default 64. */
  readonly connections?: number | undefined;
  /** Timeout in milliseconds of requests that set none. Default -1: no limit. */
  readonly timeoutMs?: number | undefined;
  /**
   * How often a request is sent again if the server cannot be reached or cannot answer. This applies to model runs and
   * read-only requests, which are safe to repeat. A request for a handler is sent again only if it never reached the
   * server. Default 2.
   */
  readonly retries?: number | undefined;
  /**
   * PEM texts for `https:` and `grpcs:`: the authority that signed the server's certificate, and the client's own
   * certificate and key for mutual TLS.
   */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
}

const RULES: Readonly<Record<keyof ConnectOptions, Rule>> = {
  apiKey: isText,
  headers: isObject,
  connections: isInteger({ lowest: 1 }),
  timeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
  retries: isInteger({ lowest: 0 }),
  tls: isObject,
};

/**
 * Connects to a server of the Open Inference Protocol: this package's, Triton, KServe and others.
 *
 * @param address `http:` or `https:` for REST, `grpc:` or `grpcs:` for gRPC, with host and port.
 * @throws InfermuxError `INVALID_ARGUMENT` for another address or option.
 */
export async function connect<Models extends ModelTypes<Models> = AnyModels>(
  address: string | URL,
  options: ConnectOptions = {},
): Promise<InferenceClient<Models>> {
  checkByteOrder();
  const checked = checkOptions('connect', options, RULES);
  const { retries = 2, timeoutMs = -1 } = checked;
  return new InferenceClient<Models>(await transportFor(readAddress(address), checked), retries, timeoutMs);
}

function readAddress(address: string | URL): URL {
  const text = String(address);
  check('the address', text, isText);
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && /^(https?|grpcs?):$/.test(url.protocol) && url.host !== '') return url;
  const message = `the address must be like http://localhost:8000 or grpc://localhost:8001, got ${show(text)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

/** Only the protocol that is used is loaded. */
async function transportFor(url: URL, { connections = 64, apiKey, headers, tls }: ConnectOptions): Promise<Transport> {
  if (/^https?:$/.test(url.protocol)) {
    const { RestTransport } = await import('./transports/rest-transport.js');
    return new RestTransport(url, { connections, apiKey, headers, tls });
  }
  const { GrpcTransport } = await import('./transports/grpc-transport.js');
  return new GrpcTransport(url.host, { apiKey, headers, tls, isSecure: url.protocol === 'grpcs:' });
}
