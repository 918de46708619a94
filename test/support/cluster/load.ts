import { Client, credentials, type Metadata } from '@grpc/grpc-js';
import { Pool } from 'undici';
import { encodeRequest } from '../../../dist/open-inference/grpc/infer-codec.js';

/** How one request went. Times in milliseconds, as of `performance.now()`. */
export interface Answer {
  readonly model: string;
  readonly began: number;
  readonly ms: number;
  /** Undefined for an answer with outputs. */
  readonly failure: string | undefined;
  /** The node that answered. */
  readonly node: string | undefined;
}

/** Sends one request, and says how it went. Does not try again. */
export type Send = (model: string) => Promise<Answer>;

export interface Sender {
  readonly send: Send;
  close(): Promise<void>;
}

export interface Input {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

const messageOf = (error: unknown) => (error instanceof Error ? `${error.name}: ${error.message}` : String(error));

/** Sends requests over REST, as a client that knows of no retries. */
export function restSender(address: string, input: Input, connections: number): Sender {
  const pool = new Pool(`http://${address}`, { connections, pipelining: 1, headersTimeout: 60_000 });
  const body = JSON.stringify({ inputs: [{ ...input, datatype: 'FP32' }] });
  const send: Send = async (model) => {
    const began = performance.now();
    const answer = (failure: string | undefined, node?: string) => ({
      model,
      began,
      ms: performance.now() - began,
      failure,
      node,
    });
    try {
      const {
        statusCode,
        headers,
        body: received,
      } = await pool.request({
        ...{ method: 'POST', path: `/v2/models/${model}/infer`, body, headers: { 'content-type': 'application/json' } },
      });
      const text = await received.text();
      const node = headers['x-infermux-node'] as string | undefined;
      return answer(statusCode === 200 ? undefined : `${statusCode} ${text.slice(0, 200)}`, node);
    } catch (error) {
      return answer(messageOf(error));
    }
  };
  return { send, close: () => pool.destroy() };
}

/** Sends requests over gRPC, likewise. @param attempts more than one: by gRPC's own retry policy, of what is UNAVAILABLE. */
export function grpcSender(address: string, input: Input, connections = 4, attempts = 1): Sender {
  const retries = attempts === 1 ? { 'grpc.enable_retries': 0 } : { 'grpc.service_config': retryPolicy(attempts) };
  const options = { ...retries, 'grpc.use_local_subchannel_pool': 1 };
  const clients = Array.from({ length: connections }, () => new Client(address, credentials.createInsecure(), options));
  const bytes = (message: Buffer) => message;
  const raw = Buffer.from(Float32Array.from(input.data).buffer);
  const inputs = [{ name: input.name, datatype: 'FP32', shape: [...input.shape], parameters: {}, contents: undefined }];
  let sent = 0;
  const send: Send = (model) => {
    const began = performance.now();
    const message = Buffer.from(
      encodeRequest({
        model_name: model,
        model_version: '',
        id: '',
        parameters: {},
        outputs: [],
        inputs,
        raw_input_contents: [raw],
      }),
    );
    sent += 1;
    const client = clients[sent % clients.length] as Client;
    return new Promise((resolve) => {
      let failure: string | undefined;
      const call = client.makeUnaryRequest(
        ...(['/inference.GRPCInferenceService/ModelInfer', bytes, bytes, message] as const),
        (error) => {
          if (error !== null) failure = `${error.code} ${error.details}`;
        },
      );
      call.on('status', ({ metadata }: { metadata: Metadata }) => {
        const [node] = metadata.get('x-infermux-node');
        resolve({ model, began, ms: performance.now() - began, failure, node: node as string | undefined });
      });
    });
  };
  return {
    send,
    close: async () => {
      for (const client of clients) client.close();
    },
  };
}

function retryPolicy(maxAttempts: number): string {
  const pauses = { initialBackoff: '0.05s', maxBackoff: '1s', backoffMultiplier: 2 };
  const retryPolicy = { maxAttempts, ...pauses, retryableStatusCodes: ['UNAVAILABLE'] };
  return JSON.stringify({ methodConfig: [{ name: [{}], retryPolicy }] });
}

/** Sends requests from so many callers, each when it has its answer to the one before, until it is stopped. */
export class ClosedLoop {
  readonly answers: Answer[] = [];
  readonly #send: Send;
  readonly #next: () => string | undefined;
  readonly #callers: Promise<void>[];
  #isStopped = false;

  /** @param next the model of the next request; undefined ends the load. */
  constructor(send: Send, callers: number, next: () => string | undefined) {
    this.#send = send;
    this.#next = next;
    this.#callers = Array.from({ length: callers }, () => this.#call());
  }

  /** Resolves when each caller has its last answer. */
  async stop(): Promise<readonly Answer[]> {
    this.#isStopped = true;
    return this.ended();
  }

  /** Resolves when there is no next model. */
  async ended(): Promise<readonly Answer[]> {
    await Promise.all(this.#callers);
    return this.answers;
  }

  async #call(): Promise<void> {
    while (!this.#isStopped) {
      const model = this.#next();
      if (model === undefined) return;
      this.answers.push(await this.#send(model));
    }
  }
}

/**
 * Sends so many requests a second, whether or not those before are answered: nodes that are slow or gone then take nothing off the
 * others. Until it is stopped.
 */
export class FixedRate {
  readonly answers: Answer[] = [];
  readonly #underWay = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;

  constructor(send: Send, perSecond: number, next: () => string) {
    const startedAt = performance.now();
    let sent = 0;
    this.#timer = setInterval(() => {
      for (const due = ((performance.now() - startedAt) * perSecond) / 1_000; sent < due; sent += 1) {
        const answered = send(next())
          .then((answer) => void this.answers.push(answer))
          .finally(() => this.#underWay.delete(answered));
        this.#underWay.add(answered);
      }
    }, 1);
  }

  /** Resolves when all that was sent is answered. */
  async stop(): Promise<readonly Answer[]> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
    return this.answers;
  }
}

/**
 * Whether the node went away between the message of its answer and the status, which Node's HTTP/2 writes later. No proxy can
 * try again what it has begun to pass on; the client can, and infermux/client does.
 */
export const isBrokenOff = ({ failure }: Answer) => failure?.includes('Call ended without gRPC status') === true;

export const failuresOf = (answers: readonly Answer[]) => answers.filter(({ failure }) => failure !== undefined);

/** The smallest time that this fraction of the answers does not exceed. */
export function quantile(answers: readonly Answer[], fraction: number): number {
  const times = answers.map(({ ms }) => ms).sort((left, right) => left - right);
  return times[Math.min(times.length - 1, Math.ceil(fraction * times.length) - 1)] ?? Number.NaN;
}
