import type { FastifyReply, FastifyRequest } from 'fastify';
import { isPlainObject } from '../../common/values/realm.js';
import { InfermuxError } from '../../index.js';
import { errorBodyOf } from '../../open-inference/error-statuses.js';
import { jsonOf } from '../../open-inference/handler-tensors.js';
import { readRunParameters } from '../../open-inference/inference-call.js';
import { doInTurns } from '../../open-inference/json/steps.js';
import { ERROR_EVENT } from '../../open-inference/own-keys.js';
import { writeAnswer, writeShortAnswer } from '../../open-inference/rest/infer-answer.js';
import { HEADER_LENGTH } from '../../open-inference/rest/infer-request.js';
import { parseObject, readParameters } from '../../open-inference/rest/tensor-message.js';
import { targetOf } from '../inference/served-names.js';
import type { ServerParts } from '../server-parts.js';
import { InferBodies } from './bodies/infer-body.js';
import { checkedJson } from './bodies/small-json.js';
import { circumstancesOf, tellLoad } from './circumstances.js';
import type { ModelPath } from './model-path.js';
import { beginRaw, sendAnswer, sendText } from './send.js';
import { visitOf } from './visit.js';

/** Most bytes of a request to `generate`, which is parsed in one go. */
const MOST_GENERATE_BYTES = 4 * 2 ** 20;
/** Answers the requests for models and handlers. */
export class InferRoutes {
  readonly #parts: ServerParts;
  readonly #bodies: InferBodies;

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.#bodies = new InferBodies(parts.allocate, (target) => parts.names.inspect(target, undefined));
  }

  /** `infer`. */
  async infer(request: FastifyRequest, reply: FastifyReply, { name, version }: ModelPath): Promise<void> {
    const { options, inference, gate, node } = this.#parts;
    const headerLength = readHeaderLength(request.headers[HEADER_LENGTH]);
    const body = visitOf(request).receive(options.limits.bodyBytes);
    const call = await this.#bodies.read(targetOf(name, version), body, headerLength);
    await gate.pass();
    const { head, outputs, queueMs } = await inference.infer(name, call, circumstancesOf(request));
    tellLoad(request, reply, node.load, queueMs);
    const answer =
      writeShortAnswer(head, outputs, options.nonFinite) ??
      (await doInTurns(writeAnswer(head, outputs, options.nonFinite)));
    sendAnswer(reply, answer);
  }

  /** `generate`: the body is the request of a handler, or has the inputs of a model by name. */
  async generate(request: FastifyRequest, reply: FastifyReply, path: ModelPath): Promise<void> {
    const { inference, node } = this.#parts;
    const { idempotencyKey, ...call } = await this.#generateCall(request, path);
    const result = await (idempotencyKey === undefined ? inference.run(call) : inference.runOnce(call, idempotencyKey));
    tellLoad(request, reply, node.load, result.timings.queueMs + result.timings.loadMs);
    const names = { model_name: path.name, model_version: String(result.version) };
    const { outputs } = result;
    const answer = isPlainObject(outputs) ? { ...names, ...outputs } : { ...names, output: outputs };
    sendText(reply, 'application/json', jsonOf(answer));
  }

  /** `generate_stream`: each item of the answer is a server-sent event. */
  async generateStream(request: FastifyRequest, reply: FastifyReply, path: ModelPath): Promise<void> {
    const { target, feeds, idempotencyKey: _, ...options } = await this.#generateCall(request, path);
    const items = this.#parts.inference.stream(target, feeds, options);
    // Until the first item there is a status to say what failed.
    let next = await items.next();
    reply.type('text/event-stream').header('cache-control', 'no-cache').header('x-accel-buffering', 'no');
    const raw = beginRaw(reply);
    try {
      for (; next.done !== true; next = await items.next()) await this.#event(raw, jsonOf(next.value));
    } catch (error) {
      if (!raw.destroyed) raw.write(`event: ${ERROR_EVENT}\ndata: ${JSON.stringify(errorBodyOf(error))}\n\n`);
    } finally {
      await items.return(undefined);
      raw.end();
    }
  }

  async #generateCall(request: FastifyRequest, { name, version }: ModelPath) {
    const { bodyBytes } = this.#parts.options.limits;
    const visit = visitOf(request);
    const body =
      bodyBytes <= MOST_GENERATE_BYTES
        ? visit.receive(bodyBytes)
        : visit.receive(MOST_GENERATE_BYTES, 'of generate: send large tensors to infer');
    const bytes = await body.all();
    const { parameters, ...feeds } = parseObject(checkedJson(bytes, body).toString());
    const options = readRunParameters(readParameters('the request', parameters));
    return { ...options, target: targetOf(name, version), feeds, ...circumstancesOf(request) };
  }

  /** Sends an event, and waits until the client has room for the next one. */
  async #event(raw: FastifyReply['raw'], data: string): Promise<void> {
    if (raw.destroyed) throw new InfermuxError('CANCELLED', 'the client went away');
    if (raw.write(`data: ${data}\n\n`)) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => raw.destroy(), this.#parts.options.limits.writeTimeoutMs);
      const settle = (done: () => void) => () => {
        clearTimeout(timer);
        raw.off('drain', drained).off('close', closed);
        done();
      };
      const drained = settle(resolve);
      const closed = settle(() => reject(new InfermuxError('CANCELLED', 'the client went away')));
      raw.once('drain', drained).once('close', closed);
    });
  }
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a header that is no number of bytes. */
function readHeaderLength(header: string | string[] | undefined): number | undefined {
  if (header === undefined) return undefined;
  if (typeof header === 'string' && /^\d{1,10}$/.test(header)) return Number(header);
  const message = `Inference-Header-Content-Length must be a number of bytes, got ${JSON.stringify(header)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
