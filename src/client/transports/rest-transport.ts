import { Pool } from 'undici';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { isPlainObject } from '../../common/values/realm.js';
import { datatypeOf } from '../../open-inference/datatypes.js';
import type { ErrorBody } from '../../open-inference/error-statuses.js';
import { jsonOf, valueIn } from '../../open-inference/handler-tensors.js';
import { doAtOnce, doInTurns } from '../../open-inference/json/steps.js';
import { ERROR_EVENT, JSON_PARAMETER } from '../../open-inference/own-keys.js';
import { rawFromTensor, tensorFromRaw } from '../../open-inference/raw-tensors.js';
import { HEADER_LENGTH } from '../../open-inference/rest/infer-request.js';
import { readTensorMessage } from '../../open-inference/rest/tensor-message.js';
import { setProperty, type Tensor } from '../../tensors/tensor.js';
import { allocateOwn } from './own-tensors.js';
import { eventsOf } from './server-sent-events.js';
import {
  type CallTerms,
  type Credentials,
  type HandlerCall,
  headersOf,
  headersOfTerms,
  type IndexInfo,
  type InferCall,
  type InferReply,
  type ModelInfo,
  type Transport,
} from './transport.js';
import { errorOfHttp, Unreachable } from './wire-errors.js';

/** Bodies up to this size are joined, so that one write sends them. */
const JOINED_BYTES = 65_536;
const AT_ONCE_BYTES = 65_536;
/** Errors of the system that come before anything is sent. */
const NOT_SENT = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT', 'EHOSTUNREACH', 'ENETUNREACH'];

interface Response {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
}

export interface RestSettings extends Credentials {
  readonly connections: number;
}

/** What is sent in a request. undici takes any iterable of bytes. */
interface Sent {
  readonly body?: Buffer | string | Iterable<Uint8Array>;
  readonly headers?: Readonly<Record<string, string>>;
}

/** REST with tensors in binary form, over connections that are kept. */
export class RestTransport implements Transport {
  readonly #pool: Pool;
  readonly #prefix: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(url: URL, settings: RestSettings) {
    const { connections, tls = {} } = settings;
    this.#pool = new Pool(url.origin, { connections, connect: tls, bodyTimeout: 0, headersTimeout: 0 });
    this.#prefix = url.pathname.replace(/\/+$/, '');
    this.#headers = headersOf(settings);
  }

  async infer(call: InferCall): Promise<InferReply> {
    const raw = call.inputs.map(({ tensor }) => rawFromTensor(tensor));
    const json = Buffer.from(JSON.stringify(requestMessage(call, raw)));
    const bytes = raw.reduce((sum, { byteLength }) => sum + byteLength, json.length);
    const body = bytes <= JOINED_BYTES ? Buffer.concat([json, ...raw]) : [json, ...raw];
    const response = await this.#request('POST', `${pathOf(call.name)}/infer`, call, {
      body,
      headers: {
        'content-type': 'application/octet-stream',
        'content-length': String(bytes),
        [HEADER_LENGTH]: String(json.length),
      },
    });
    return readReply(response);
  }

  async *generateStream(call: HandlerCall): AsyncGenerator<unknown> {
    const { statusCode, headers, body } = await this.#send('POST', `${pathOf(call.name)}/generate_stream`, call, {
      body: generateBody(call),
      headers: { 'content-type': 'application/json' },
    });
    if (statusCode !== 200) {
      throw errorOf({ status: statusCode, headers, bytes: Buffer.from(await body.arrayBuffer()) });
    }
    try {
      for await (const { type, data } of eventsOf(body)) {
        const value: unknown = JSON.parse(data);
        if (type === ERROR_EVENT) {
          const { error, code } = value as Partial<ErrorBody>;
          throw errorOfHttp(500, { message: String(error), code });
        }
        yield value;
      }
    } catch (cause) {
      throw cause instanceof InfermuxError ? cause : gone(cause, call);
    } finally {
      body.destroy();
    }
  }

  async isReady(name: string | undefined, terms: CallTerms): Promise<boolean> {
    const path = name === undefined ? '/v2/health/ready' : `${pathOf(name)}/ready`;
    const response = await this.#request('GET', path, terms, {}, true);
    if (response.status === 401 || response.status === 403) throw errorOf(response);
    return response.status === 200;
  }

  async metadata(name: string, terms: CallTerms): Promise<ModelInfo> {
    return (await this.#get(pathOf(name), terms)) as ModelInfo;
  }

  async index(terms: CallTerms): Promise<readonly IndexInfo[]> {
    const response = await this.#request('POST', '/v2/repository/index', terms, { body: '{}' }, true);
    if (response.status === 200) return JSON.parse(response.bytes.toString()) as IndexInfo[];
    if (response.status !== 404 && response.status !== 403) throw errorOf(response);
    // The admin part is switched off, or it is a server without it.
    const { models } = (await this.#get('/v2/models', terms)) as { readonly models: readonly string[] };
    return models.map((name) => ({ name }));
  }

  async load(name: string, terms: CallTerms): Promise<void> {
    await this.#request('POST', `/v2/repository/models/${encodeURIComponent(name)}/load`, terms, { body: '{}' });
  }

  async unload(name: string, terms: CallTerms): Promise<void> {
    await this.#request('POST', `/v2/repository/models/${encodeURIComponent(name)}/unload`, terms, { body: '{}' });
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  async #get(path: string, terms: CallTerms): Promise<unknown> {
    const { bytes } = await this.#request('GET', path, terms, {});
    return JSON.parse(bytes.toString());
  }

  /** @param isAny whether an answer of any status is returned. */
  async #request(method: 'GET' | 'POST', path: string, terms: CallTerms, sent: Sent, isAny = false): Promise<Response> {
    const { statusCode: status, headers, body } = await this.#send(method, path, terms, sent);
    let bytes: Buffer;
    try {
      bytes = Buffer.from(await body.arrayBuffer());
    } catch (cause) {
      throw gone(cause, terms);
    }
    const response = { status, headers, bytes };
    if (status !== 200 && !isAny) throw errorOf(response);
    return response;
  }

  async #send(method: 'GET' | 'POST', path: string, terms: CallTerms, { body, headers = {} }: Sent) {
    const { deadline } = terms;
    const own = { ...this.#headers, ...headers, ...headersOfTerms(terms) };
    const timer = deadline === undefined ? undefined : AbortSignal.timeout(Math.max(1, deadline - Date.now()));
    const signal = joined(terms.signal, timer);
    try {
      return await this.#pool.request({
        ...{ method, path: `${this.#prefix}${path}`, headers: own },
        ...(body === undefined ? {} : { body: body as Buffer }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (cause) {
      throw gone(cause, terms);
    }
  }
}

function joined(one: AbortSignal | undefined, other: AbortSignal | undefined): AbortSignal | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return AbortSignal.any([one, other]);
}

function pathOf(name: string): string {
  const [, id = name, version] = /^(.+)@(\d+)$/.exec(name) ?? [];
  return `/v2/models/${encodeURIComponent(id)}${version === undefined ? '' : `/versions/${version}`}`;
}

function requestMessage({ inputs, outputs, parameters, requestId }: InferCall, raw: readonly Uint8Array[]) {
  return {
    ...(requestId === undefined ? {} : { id: requestId }),
    parameters: { ...parameters, binary_data_output: true },
    inputs: inputs.map(({ name, tensor }, index) => ({
      name,
      shape: tensor.dims,
      datatype: datatypeOf(tensor.type),
      parameters: { binary_data_size: (raw[index] as Uint8Array).byteLength },
    })),
    ...(outputs === undefined ? {} : { outputs: outputs.map((name) => ({ name, parameters: { binary_data: true } })) }),
  };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a request that REST cannot carry to a stream. */
function generateBody({ request, parameters }: HandlerCall): string {
  if (!isPlainObject(request) || 'parameters' in request) {
    const message = 'over REST a request for a stream must be an object without a key "parameters"; gRPC takes any';
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return jsonOf({ ...request, parameters });
}

async function readReply({ headers, bytes }: Response): Promise<InferReply> {
  const said = headers[HEADER_LENGTH];
  const jsonBytes = typeof said === 'string' ? Number(said) : bytes.length;
  const steps = readTensorMessage(bytes.subarray(0, jsonBytes), 'outputs', allocateOwn);
  const { fields, tensors } = jsonBytes <= AT_ONCE_BYTES ? doAtOnce(steps) : await doInTurns(steps);
  const outputs: Record<string, Tensor> = {};
  let at = jsonBytes;
  for (const head of tensors) {
    const { binaryBytes = 0 } = head;
    const own = bytes.subarray(at, at + binaryBytes);
    const tensor = head.tensor ?? tensorFromRaw(`output ${head.name}`, head, own, allocateOwn);
    setProperty(outputs, head.name, tensor);
    at += binaryBytes;
  }
  const json = tensors.find(({ parameters }) => parameters[JSON_PARAMETER] === true);
  return {
    outputs,
    model: String(fields['model_name'] ?? ''),
    version: String(fields['model_version'] ?? ''),
    parameters: (fields['parameters'] ?? {}) as Record<string, unknown>,
    json: json && { value: valueIn(outputs[json.name] as Tensor) },
  };
}

function errorOf({ status, headers, bytes }: Response): InfermuxError {
  const text = bytes.toString();
  let body: { readonly error?: unknown; readonly code?: unknown; readonly retryAfterMs?: unknown } = {};
  try {
    body = JSON.parse(text) as typeof body;
  } catch {
    // A proxy may have answered.
  }
  // The server has waited in vain for a request, and has not had all of this one: it is sent on a connection that had been
  // opened too long before.
  if (status === 408) return new Unreachable('the server has given the connection up', undefined, false);
  const seconds = Number(headers['retry-after']);
  // A model that is not there has another code.
  if (status === 404 && body.code === 'INVALID_ARGUMENT') {
    return new InfermuxError('FAILED_PRECONDITION', `the server has this part switched off: ${String(body.error)}`);
  }
  const own = typeof body.retryAfterMs === 'number' ? body.retryAfterMs : undefined;
  return errorOfHttp(status, {
    message: typeof body.error === 'string' ? body.error : `the server answered ${status}: ${text.slice(0, 200)}`,
    code: body.code,
    retryAfterMs: own ?? (Number.isFinite(seconds) ? seconds * 1_000 : undefined),
  });
}

function gone(cause: unknown, { signal, deadline }: CallTerms): InfermuxError {
  if (signal?.aborted === true)
    return new InfermuxError('CANCELLED', "the caller's signal was aborted", { cause: signal.reason });
  const {
    name,
    code = '',
    syscall,
  } = cause as { readonly name?: string; readonly code?: string; readonly syscall?: string };
  if (name === 'TimeoutError' || (deadline !== undefined && Date.now() >= deadline)) {
    return new InfermuxError('DEADLINE_EXCEEDED', 'the time-out passed before the answer was there', { cause });
  }
  const wasSent = syscall !== 'connect' && !NOT_SENT.includes(code);
  return new Unreachable(`the server cannot be reached: ${messageOf(cause)}`, cause, wasSent);
}
