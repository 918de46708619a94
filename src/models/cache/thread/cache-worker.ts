import type { MessagePort } from 'node:worker_threads';
import { systemClock } from '../../../common/clock.js';
import { lookFailed } from '../../../common/files/system-errors.js';
import { lowerThreadPriority } from '../../../common/thread-priority.js';
import { fromErrorRecord, toErrorRecord } from '../../../common/values/error-record.js';
import { ModelFileReader } from '../../sources/model-files.js';
import { ModelCache, type ModelCacheOptions } from '../model-cache.js';
import type { SignRequest } from '../remote-file.js';
import type { FromCache, KeptModel, Outcome, Question, SentRemoteModel, SentSignature, ToCache } from './messages.js';

/** Bytes that have come are told this often at most. */
const TELL_MS = 100;

/** The entry of the thread that downloads models. It ends when its owner ends it. */
export default async function cacheWorker({ settings, port }: { settings: ModelCacheOptions; port: MessagePort }) {
  lowerThreadPriority('last');
  const thread = new CacheWorker(settings, port);
  port.on('message', (message: ToCache | undefined) => {
    if (message !== undefined) void thread.handle(message);
  });
  await new Promise(() => undefined);
}

/** Does what the calling thread asks of the cache. */
class CacheWorker {
  readonly #port: MessagePort;
  readonly #cache: ModelCache;
  readonly #calls = new Map<number, AbortController>();
  readonly #questions = new Map<number, (outcome: Outcome<unknown>) => void>();
  #lastQuestion = 0;
  #received = 0;

  constructor(settings: ModelCacheOptions, port: MessagePort) {
    this.#port = port;
    this.#cache = new ModelCache(settings, {
      clock: systemClock,
      release: (folder) => this.#ask<boolean>({ kind: 'release', folder }),
      received: (bytes) => this.#tell(bytes),
    });
  }

  async handle(message: ToCache): Promise<void> {
    switch (message.kind) {
      case 'fetch':
        return this.#call(message.call, (signal) => this.#fetch(message.call, message.model, signal));
      case 'keep':
        return this.#call(message.call, (signal) =>
          this.#cache.keep({ ...message.model, pieces: this.#pieces(message.call, signal) }, signal),
        );
      case 'remove':
        return this.#call(message.call, async () => {
          await this.#cache.remove(message.folder);
          return undefined;
        });
      case 'used':
        return this.#cache.used(message.path);
      case 'settle':
        return this.#cache.settle(message.path);
      case 'abort':
        this.#calls.get(message.call)?.abort(fromErrorRecord(message.reason));
        return;
      case 'answer':
        this.#questions.get(message.question)?.(message.outcome);
        this.#questions.delete(message.question);
    }
  }

  async #call(call: number, work: (signal: AbortSignal) => Promise<string | undefined>): Promise<void> {
    const controller = new AbortController();
    this.#calls.set(call, controller);
    let outcome: Outcome<KeptModel | undefined>;
    try {
      const path = await work(controller.signal);
      outcome = { value: path === undefined ? undefined : await this.#kept(path) };
    } catch (cause) {
      outcome = { error: toErrorRecord(cause) };
    }
    this.#calls.delete(call);
    this.#post({ kind: 'done', call, outcome });
  }

  /** @throws InfermuxError `MODEL_LOAD_FAILED` when its files cannot be looked at. */
  async #kept(path: string): Promise<KeptModel> {
    try {
      return { path, files: await new ModelFileReader().read(path) };
    } catch (cause) {
      this.#cache.settle(path);
      throw lookFailed('MODEL_LOAD_FAILED', path, cause);
    }
  }

  #fetch(call: number, model: SentRemoteModel, signal: AbortSignal): Promise<string | undefined> {
    const { url, headers, isSigned, allowHttp, ...wanted } = model;
    const sign: SignRequest = (request) => this.#ask<SentSignature>({ kind: 'sign', call, ...request }, signal);
    const file = { url: new URL(url), headers, sign: isSigned ? sign : undefined, allowHttp };
    return this.#cache.fetch({ ...wanted, file }, signal);
  }

  async *#pieces(call: number, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = await this.#ask<Uint8Array | undefined>({ kind: 'piece', call }, signal);
      if (piece === undefined) return;
      yield piece;
    }
  }

  /** @param signal aborted when the answer is not wanted any more: it may never come. */
  async #ask<T>(asked: Question, signal?: AbortSignal): Promise<T> {
    this.#lastQuestion += 1;
    const question = this.#lastQuestion;
    let abort: () => void = () => undefined;
    const outcome = await new Promise<Outcome<unknown>>((resolve, reject) => {
      abort = () => {
        this.#questions.delete(question);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#questions.set(question, resolve);
      this.#post({ kind: 'question', question, asked });
    });
    signal?.removeEventListener('abort', abort);
    if ('error' in outcome) throw fromErrorRecord(outcome.error);
    return outcome.value as T;
  }

  #tell(bytes: number): void {
    if (this.#received === 0) {
      setTimeout(() => {
        this.#post({ kind: 'received', bytes: this.#received });
        this.#received = 0;
      }, TELL_MS);
    }
    this.#received += bytes;
  }

  #post(message: FromCache): void {
    this.#port.postMessage(message);
  }
}
