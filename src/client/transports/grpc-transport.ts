import {
  type CallOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import type { MethodDefinition, ServiceDefinition } from '@grpc/proto-loader';
import { InfermuxError } from '../../common/errors.js';
import { checkDatatype, checkShape, datatypeOf } from '../../open-inference/datatypes.js';
import { GRPC_STATUS } from '../../open-inference/error-statuses.js';
import type { WireRequest, WireResponse, WireStreamResponse } from '../../open-inference/grpc/infer-messages.js';
import { inferenceServiceOf, loadDefinitions } from '../../open-inference/grpc/service-definition.js';
import { tensorFromContents } from '../../open-inference/grpc/typed-contents.js';
import { valueIn } from '../../open-inference/handler-tensors.js';
import {
  CODE_METADATA,
  CODE_PARAMETER,
  JSON_PARAMETER,
  MODEL,
  RETRY_AFTER_METADATA,
  STREAM_PARAMETER,
} from '../../open-inference/own-keys.js';
import { rawFromTensor, tensorFromRaw } from '../../open-inference/raw-tensors.js';
import { setProperty, type Tensor } from '../../tensors/tensor.js';
import { inferCallOf } from '../handler-call.js';
import { allocateOwn } from './own-tensors.js';
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
import { errorOfGrpc, Unreachable } from './wire-errors.js';

const OPTIONS = { 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 } as const;

/**
 * What grpc-js says when a stream ends without a status: the server went away while it answered, and a proxy has told so by
 * a reset. A proxy cannot try again what has begun to be answered.
 */
const CUT = /^(Received RST_STREAM with code|Call cancelled$)/;

type Method = MethodDefinition<object, object>;

export interface GrpcSettings extends Credentials {
  readonly isSecure: boolean;
}

/** gRPC with raw contents, over one connection. */
export class GrpcTransport implements Transport {
  readonly #client: Client;
  readonly #service: ServiceDefinition;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(address: string, settings: GrpcSettings) {
    const { isSecure, tls = {} } = settings;
    const buffer = (text: string | undefined) => (text === undefined ? null : Buffer.from(text));
    const secure = () => credentials.createSsl(buffer(tls.ca), buffer(tls.key), buffer(tls.cert));
    this.#client = new Client(address, isSecure ? secure() : credentials.createInsecure(), OPTIONS);
    this.#service = inferenceServiceOf(loadDefinitions());
    this.#headers = headersOf(settings);
  }

  async infer(call: InferCall): Promise<InferReply> {
    return replyOf(await this.#unary<WireResponse>('ModelInfer', messageOf(call), call, call.name));
  }

  async *generateStream(call: HandlerCall): AsyncGenerator<unknown> {
    const method = this.#service['ModelStreamInfer'] as Method;
    const stream = this.#client.makeBidiStreamRequest(
      ...([method.path, method.requestSerialize, method.responseDeserialize] as const),
      ...([this.#metadata(call, call.name), optionsOf(call)] as const),
    ) as unknown as ClientDuplexStream<WireRequest, WireStreamResponse>;
    const cancel = () => stream.cancel();
    if (call.signal?.aborted === true) cancel();
    else call.signal?.addEventListener('abort', cancel, { once: true });
    const parameters = { ...call.parameters, [STREAM_PARAMETER]: true };
    stream.write(messageOf(inferCallOf({ ...call, parameters })));
    stream.end();
    try {
      for await (const { error_message: message, infer_response: response } of stream) {
        if (message !== '') {
          const code = response?.parameters[CODE_PARAMETER];
          throw errorOfGrpc(GRPC_STATUS.UNKNOWN, { message, code });
        }
        const { json, outputs } = replyOf(response as WireResponse);
        yield json === undefined ? outputs : json.value;
      }
    } catch (cause) {
      throw cause instanceof InfermuxError ? cause : errorOf(cause as ServiceError, call);
    } finally {
      call.signal?.removeEventListener('abort', cancel);
      stream.cancel();
    }
  }

  async isReady(name: string | undefined, terms: CallTerms): Promise<boolean> {
    const method = name === undefined ? 'ServerReady' : 'ModelReady';
    try {
      return (await this.#unary<{ readonly ready: boolean }>(method, namedOf(name ?? ''), terms)).ready;
    } catch (error) {
      if (error instanceof InfermuxError && error.code === 'MODEL_NOT_FOUND') return false;
      throw error;
    }
  }

  metadata(name: string, terms: CallTerms): Promise<ModelInfo> {
    return this.#unary('ModelMetadata', namedOf(name), terms);
  }

  async index(terms: CallTerms): Promise<readonly IndexInfo[]> {
    try {
      return (await this.#unary<{ readonly models: IndexInfo[] }>('RepositoryIndex', {}, terms)).models;
    } catch (error) {
      if (!(error instanceof InfermuxError) || error.code !== 'FAILED_PRECONDITION') throw error;
      // The admin part is switched off, or for other keys. Statistics name all models, too.
      const { model_stats } = await this.#unary<{ readonly model_stats: IndexInfo[] }>('ModelStatistics', {}, terms);
      return [...new Set(model_stats.map(({ name }) => name))].map((name) => ({ name }));
    }
  }

  async load(model_name: string, terms: CallTerms): Promise<void> {
    await this.#unary('RepositoryModelLoad', { model_name }, terms);
  }

  async unload(model_name: string, terms: CallTerms): Promise<void> {
    await this.#unary('RepositoryModelUnload', { model_name }, terms);
  }

  async close(): Promise<void> {
    this.#client.close();
  }

  #unary<Answer>(name: string, message: object, terms: CallTerms, model?: string): Promise<Answer> {
    const { path, requestSerialize, responseDeserialize } = this.#service[name] as Method;
    return new Promise((resolve, reject) => {
      const { signal } = terms;
      const call = this.#client.makeUnaryRequest(
        ...([path, requestSerialize, responseDeserialize, message] as const),
        ...([this.#metadata(terms, model), optionsOf(terms)] as const),
        (error, answer) => {
          signal?.removeEventListener('abort', cancel);
          if (error === null) resolve(answer as Answer);
          else reject(errorOf(error, terms));
        },
      );
      const cancel = () => call.cancel();
      if (signal?.aborted === true) cancel();
      else signal?.addEventListener('abort', cancel, { once: true });
    });
  }

  /** @param model that the request is for: proxies see it, and send requests for one model to one server. */
  #metadata(terms: CallTerms, model: string | undefined): Metadata {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(this.#headers)) metadata.set(name, value);
    for (const [name, value] of Object.entries(headersOfTerms(terms))) metadata.set(name, value);
    // Metadata is ASCII.
    if (model !== undefined) metadata.set(MODEL, encodeURIComponent(namedOf(model).name));
    return metadata;
  }
}

function optionsOf({ deadline }: CallTerms): CallOptions {
  return deadline === undefined ? {} : { deadline };
}

/** Splits `id@version`. */
function namedOf(name: string): { readonly name: string; readonly version: string } {
  const [, id = name, version = ''] = /^(.+)@(\d+)$/.exec(name) ?? [];
  return { name: id, version };
}

function messageOf({ name, inputs, outputs = [], parameters, requestId }: InferCall): WireRequest {
  const { name: model_name, version: model_version } = namedOf(name);
  return {
    ...{ model_name, model_version, id: requestId ?? '', parameters },
    inputs: inputs.map(({ name: own, tensor }) => ({
      ...{ name: own, datatype: datatypeOf(tensor.type), shape: tensor.dims, parameters: {}, contents: undefined },
    })),
    outputs: outputs.map((output) => ({ name: output, parameters: {} })),
    raw_input_contents: inputs.map(({ tensor }) => rawFromTensor(tensor)),
  };
}

function replyOf({
  model_name,
  model_version,
  parameters,
  outputs,
  raw_output_contents: raw,
}: WireResponse): InferReply {
  const tensors: Record<string, Tensor> = {};
  let json: InferReply['json'];
  for (const [index, output] of outputs.entries()) {
    const { name, contents } = output;
    const head = {
      name,
      datatype: checkDatatype('outputs', index, output.datatype),
      shape: checkShape('outputs', index, output.shape),
    };
    const own = raw[index];
    const tensor =
      own === undefined
        ? tensorFromContents(`output ${name}`, head, contents, allocateOwn)
        : tensorFromRaw(`output ${name}`, head, own, allocateOwn);
    if (output.parameters[JSON_PARAMETER] === true) json = { value: valueIn(tensor) };
    setProperty(tensors, name, tensor);
  }
  return { outputs: tensors, model: model_name, version: model_version, parameters, json };
}

function errorOf({ code, details, metadata, message }: ServiceError, { signal }: CallTerms): InfermuxError {
  if (signal?.aborted === true)
    return new InfermuxError('CANCELLED', "the caller's signal was aborted", { cause: signal.reason });
  const [own] = metadata?.get(CODE_METADATA) ?? [];
  const [retryAfter] = metadata?.get(RETRY_AFTER_METADATA) ?? [];
  // Without a code of the server's own it is the connection that has failed.
  if (code === GRPC_STATUS.UNAVAILABLE && own === undefined) {
    return new Unreachable(
      `the server cannot be reached: ${details || message}`,
      undefined,
      !/ECONNREFUSED|ENOTFOUND/.test(details),
    );
  }
  if (own === undefined && CUT.test(details))
    return new Unreachable(`the connection broke before the end of the answer: ${details}`, undefined, true);
  const retryAfterMs = retryAfter === undefined ? undefined : Number(retryAfter);
  return errorOfGrpc(code, { message: details || message, code: own, retryAfterMs });
}
