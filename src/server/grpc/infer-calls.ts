import type { Metadata, ServerUnaryCall } from '@grpc/grpc-js';
import { toInfermuxError } from '../../common/errors.js';
import type { InfermuxError } from '../../index.js';
import { answeredTensors } from '../../open-inference/answer-tensors.js';
import { BYTES_OF_A_STRING } from '../../open-inference/byte-strings.js';
import { inferenceCallOfMessage, messageOfAnswer } from '../../open-inference/grpc/infer-conversion.js';
import type {
  ReceivedMessage,
  WireResponse,
  WireStreamResponse,
  WireTensor,
} from '../../open-inference/grpc/infer-messages.js';
import { mayHoldJson, requestOf } from '../../open-inference/handler-tensors.js';
import { CODE_PARAMETER, ONGOING, QUEUE_MS, STREAM_PARAMETER } from '../../open-inference/own-keys.js';
import { elementsOf } from '../../tensors/tensor.js';
import type { Circumstances } from '../inference/inference.js';
import { targetOf } from '../inference/served-names.js';
import { type LoadMeter, shownMs } from '../node/node-load.js';
import { ORCA_FORMAT, ORCA_METADATA, orcaMessage } from '../node/orca.js';
import type { ServerParts } from '../server-parts.js';
import { type Calls, readable } from './calls.js';
import type { CallGuard } from './guard/call-guard.js';
import { InferStream, type InferStreamCall } from './infer-stream.js';

/** Answers `ModelInfer` and `ModelStreamInfer`. */
export class InferCalls {
  readonly #parts: ServerParts;
  readonly #calls: Calls;
  readonly #guard: Pick<CallGuard, 'endIfUnread'>;

  constructor(parts: ServerParts, calls: Calls, guard: Pick<CallGuard, 'endIfUnread'>) {
    this.#parts = parts;
    this.#calls = calls;
    this.#guard = guard;
  }

  async infer(
    request: ReceivedMessage,
    call: ServerUnaryCall<ReceivedMessage, WireResponse>,
    trailer: Metadata,
  ): Promise<WireResponse> {
    // A client that does not read its answer keeps its place.
    const leave = this.#parts.admission.admit(memoryOf(request));
    return this.#infer(request, this.#calls.circumstances(call, leave), (queueMs) =>
      tellLoad(call.metadata, trailer, this.#parts.node.load, queueMs),
    );
  }

  stream(call: InferStreamCall): void {
    // Its key would be that of each message.
    const { idempotencyKey: _, ...circumstances } = this.#calls.circumstances(call);
    new InferStream(call, this.#calls, {
      answers: (message) => this.#answers(message, circumstances),
      endIfUnread: (since) => this.#guard.endIfUnread(call.getPeer(), since),
      writeTimeoutMs: this.#parts.options.limits.writeTimeoutMs,
    });
  }

  /** The answers to a request of a stream: one, or the items of a handler's answer if it asks for them. Never throws. */
  async *#answers(message: ReceivedMessage, circumstances: Circumstances): AsyncGenerator<WireStreamResponse> {
    let leave: (() => void) | undefined;
    try {
      const request = readable(message);
      leave = this.#parts.admission.admit(memoryOf(request));
      if (request.parameters[STREAM_PARAMETER] === true) yield* this.#items(request, circumstances);
      else yield { error_message: '', infer_response: await this.#infer(request, circumstances) };
    } catch (cause) {
      const error = toInfermuxError(cause);
      yield { error_message: error.message, infer_response: failureOf(message, error) };
    } finally {
      // When what was yielded is written.
      leave?.();
    }
  }

  async *#items(request: ReceivedMessage, circumstances: Circumstances): AsyncGenerator<WireStreamResponse> {
    const { model_name: name, model_version: version } = request;
    const call = inferenceCallOfMessage(targetOf(name, version), request, this.#parts.allocate);
    const feeds = mayHoldJson(call.feeds) ? requestOf(call.feeds) : call.feeds;
    const items = this.#parts.inference.stream(call.target, feeds, { ...call.options, ...circumstances });
    for await (const item of items) {
      const head = { model: name, version: '1', id: call.id, parameters: undefined };
      yield { error_message: '', infer_response: messageOfAnswer(head, answeredTensors(item, call)) };
    }
  }

  async #infer(
    request: ReceivedMessage,
    circumstances: Circumstances,
    tell?: (queueMs: number) => void,
  ): Promise<WireResponse> {
    const { model_name: name, model_version: version } = request;
    const call = inferenceCallOfMessage(targetOf(name, version), request, this.#parts.allocate);
    await this.#parts.gate.pass();
    const { head, outputs, queueMs } = await this.#parts.inference.infer(name, call, circumstances);
    tell?.(queueMs);
    return messageOfAnswer(head, outputs);
  }
}

/** Says in the trailer of an answer how long its request waited, and how loaded this node is. */
function tellLoad(asked: Metadata, trailer: Metadata, load: LoadMeter, queueMs: number): void {
  trailer.set(QUEUE_MS, shownMs(queueMs));
  trailer.set(ONGOING, String(load.ongoing));
  if (asked.get(ORCA_FORMAT).length > 0) trailer.set(ORCA_METADATA, Buffer.from(orcaMessage(load.read())));
}

/** Bytes that a request takes in memory, about: its message, and strings, which take more than in the message. */
function memoryOf({ byteLength, inputs, raw_input_contents: raw }: ReceivedMessage): number {
  let bytes = byteLength;
  for (let index = 0; index < inputs.length; index += 1) {
    const { datatype, shape } = inputs[index] as WireTensor;
    const most = raw[index]?.byteLength ?? 0;
    if (datatype === 'BYTES') bytes += Math.max(0, Math.min(most, elementsOf(shape))) * BYTES_OF_A_STRING;
  }
  return bytes;
}

/** The answer that goes with an error message: it has the id, so that the client knows which request has failed. */
function failureOf({ model_name, model_version, id }: Partial<ReceivedMessage>, { code }: InfermuxError): WireResponse {
  return {
    model_name: model_name ?? '',
    model_version: model_version ?? '',
    id: id ?? '',
    parameters: { [CODE_PARAMETER]: code },
    outputs: [],
    raw_output_contents: [],
  };
}
