import type { Clock } from '../../../common/clock.js';
import { InfermuxError, messageOf, readingInput } from '../../../common/errors.js';
import { ownFile } from '../../../common/files/own-file.js';
import { fromErrorRecord, toErrorRecord } from '../../../common/values/error-record.js';
import { iteratorOf } from '../../../common/values/streams.js';
import { entryFolderOf } from '../entry-files.js';
import type { ModelCacheOptions, RemoteModel, StreamedModel } from '../model-cache.js';
import { nextPiece } from '../stream-pieces.js';
import type { FromCache, KeptModel, Outcome, Question, SentSignature, ToCache } from './messages.js';

/** A thread, and the messages to it; the first one starts it. */
export interface SideThread {
  /** @throws Error when the thread is gone, or cannot be started. */
  post(message: unknown, transfer?: readonly ArrayBuffer[]): void;
  /** Resolves when the thread is gone, with the error that ended it. */
  readonly ended: Promise<Error | undefined>;
  terminate(): void;
}

/** Makes a thread whose module's default export is given the settings and a port. */
export type StartThread = (
  entry: URL,
  settings: unknown,
  observer: { received(message: unknown): void; unreadable(error: Error): void },
) => SideThread;

export interface CacheThreadEnvironment {
  readonly clock: Clock;
  readonly startThread: StartThread;
  /** Takes the models with files in the folder out of service. @returns false when they are in use. */
  release(folder: string): Promise<boolean>;
  received(bytes: number): void;
}

interface Call {
  /** What the thread may ask about. */
  readonly source: RemoteModel | StreamedModel | undefined;
  readonly pieces: AsyncIterator<Uint8Array> | undefined;
  readonly resolve: (kept: KeptModel | undefined) => void;
  readonly reject: (cause: unknown) => void;
}

/** The module that the thread runs, as seen from this module. */
const ENTRY = './cache-worker.js';
/** A thread without work ends then. */
const IDLE_MS = 30_000;

/**
 * The cache of models, in a thread of its own: downloads, hashes and files take the calling thread nothing, and go behind
 * it where both want a core. The thread starts when it is first needed.
 */
export class CacheThread {
  readonly #options: ModelCacheOptions;
  readonly #environment: CacheThreadEnvironment;
  readonly #calls = new Map<number, Call>();
  #thread: SideThread | undefined;
  #lastCall = 0;
  #cancelEnd: () => void = () => undefined;

  constructor(options: ModelCacheOptions, environment: CacheThreadEnvironment) {
    this.#options = options;
    this.#environment = environment;
  }

  /** As {@link ModelCache.fetch}. */
  fetch(model: RemoteModel, signal: AbortSignal): Promise<KeptModel | undefined> {
    const { file, name, fileName, bytes, sha256 } = model;
    const { url, headers, sign, allowHttp } = file;
    const wanted = { name, fileName, bytes, sha256 };
    const sent = { ...wanted, url: url.href, headers, isSigned: sign !== undefined, allowHttp };
    return this.#call(model, undefined, signal, (call) => ({ kind: 'fetch', call, model: sent }));
  }

  /** As {@link ModelCache.keep}. */
  async keep(model: StreamedModel, signal: AbortSignal): Promise<KeptModel> {
    const { name, fileName, bytes, sha256 } = model;
    const pieces = readingInput('the stream', () => iteratorOf(model.pieces));
    const sent = { name, fileName, bytes, sha256 };
    try {
      return (await this.#call(model, pieces, signal, (call) => ({ kind: 'keep', call, model: sent }))) as KeptModel;
    } finally {
      // Also when it was not read to its end. Nobody waits for what it does then.
      void (async () => pieces.return?.())().catch(() => undefined);
    }
  }

  /** The folder of the entry that the file is in; undefined for a file elsewhere. */
  folderOf(path: string): string | undefined {
    return entryFolderOf(this.#options.directory, path);
  }

  /** The model's file was used: others leave before it. */
  used(path: string): void {
    if (this.folderOf(path) === undefined || this.#thread === undefined) return;
    this.#post({ kind: 'used', path });
  }

  /** The model that was fetched or kept is used, or not wanted: until then its files stay. */
  settle({ path }: KeptModel): void {
    if (this.#thread !== undefined) this.#post({ kind: 'settle', path });
  }

  /** Removes the folder of an entry. */
  async remove(folder: string): Promise<void> {
    const { signal } = new AbortController();
    await this.#call(undefined, undefined, signal, (call) => ({ kind: 'remove', call, folder }));
  }

  /** Ends the thread. What is under way fails. */
  close(): void {
    this.#cancelEnd();
    this.#thread?.terminate();
  }

  #call(
    source: Call['source'],
    pieces: Call['pieces'],
    signal: AbortSignal,
    messageOfCall: (call: number) => ToCache,
  ): Promise<KeptModel | undefined> {
    if (signal.aborted) return Promise.reject(signal.reason);
    this.#cancelEnd();
    this.#lastCall += 1;
    const call = this.#lastCall;
    return new Promise<KeptModel | undefined>((resolve, reject) => {
      const abort = () => {
        this.#post({ kind: 'abort', call, reason: toErrorRecord(signal.reason) });
        settle(call);
        reject(signal.reason);
      };
      const settle = (settled: number) => {
        signal.removeEventListener('abort', abort);
        this.#calls.delete(settled);
        this.#endWhenIdle();
      };
      this.#calls.set(call, {
        ...{ source, pieces },
        resolve: (kept) => {
          settle(call);
          resolve(kept);
        },
        reject: (cause) => {
          settle(call);
          reject(cause);
        },
      });
      signal.addEventListener('abort', abort, { once: true });
      this.#post(messageOfCall(call));
    });
  }

  #post(message: ToCache, transfer: readonly ArrayBuffer[] = []): void {
    try {
      this.#thread ??= this.#start();
      this.#thread.post(message, transfer);
    } catch (cause) {
      this.#lost(cause);
    }
  }

  #start(): SideThread {
    const thread = this.#environment.startThread(ownFile(ENTRY, import.meta.url), this.#options, {
      received: (message) => this.#receive(message as FromCache, thread),
      unreadable: (error) => this.#thread === thread && this.#lost(error),
    });
    void thread.ended.then((cause) => {
      if (this.#thread === thread) this.#lost(cause ?? new Error('it ended'));
    });
    return thread;
  }

  #lost(cause: unknown): void {
    this.#thread?.terminate();
    this.#thread = undefined;
    const message = `the thread that downloads models ended: ${messageOf(cause)}`;
    for (const { reject } of [...this.#calls.values()])
      reject(new InfermuxError('MODEL_LOAD_FAILED', message, { cause, retryable: true }));
  }

  #endWhenIdle(): void {
    if (this.#calls.size > 0) return;
    this.#cancelEnd();
    this.#cancelEnd = this.#environment.clock.schedule(() => {
      const thread = this.#thread;
      this.#thread = undefined;
      thread?.terminate();
    }, IDLE_MS);
  }

  #receive(message: FromCache, thread: SideThread): void {
    switch (message.kind) {
      case 'received':
        this.#environment.received(message.bytes);
        break;
      case 'question':
        void this.#answer(message.question, message.asked, thread);
        break;
      case 'done': {
        const { outcome } = message;
        const call = this.#calls.get(message.call);
        if ('error' in outcome) call?.reject(fromErrorRecord(outcome.error));
        else if (call !== undefined) call.resolve(outcome.value);
        // It was given up when it was done.
        else if (outcome.value !== undefined) this.settle(outcome.value);
      }
    }
  }

  async #answer(question: number, asked: Question, thread: SideThread): Promise<void> {
    let outcome: Outcome<unknown>;
    let transfer: readonly ArrayBuffer[] = [];
    try {
      const value = await this.#valueOf(asked);
      outcome = { value };
      // A copy of the stream's piece.
      if (asked.kind === 'piece' && value !== undefined) transfer = [(value as Uint8Array).buffer as ArrayBuffer];
    } catch (cause) {
      outcome = { error: toErrorRecord(cause) };
    }
    // Another thread has questions of its own.
    if (this.#thread === thread) this.#post({ kind: 'answer', question, outcome }, transfer);
  }

  async #valueOf(asked: Question): Promise<boolean | SentSignature | Uint8Array | undefined> {
    if (asked.kind === 'release') return this.#environment.release(asked.folder);
    const call = this.#calls.get(asked.call);
    // Not the end of its stream.
    if (call === undefined) throw new InfermuxError('CANCELLED', 'the model is not wanted any more');
    const { source, pieces } = call;
    if (asked.kind === 'piece') return pieces && copyOf(await nextPiece(pieces, source?.name ?? ''));
    const sign = source !== undefined && 'file' in source ? source.file.sign : undefined;
    const { url = asked.url, headers = asked.headers } =
      (await sign?.({ url: asked.url, headers: asked.headers })) ?? {};
    return { url: String(url), headers: Object.fromEntries(new Headers(headers)) };
  }
}

/** A copy, which can be given away. */
function copyOf(piece: Uint8Array | undefined): Uint8Array | undefined {
  return piece && Uint8Array.from(new Uint8Array(piece.buffer, piece.byteOffset, piece.byteLength));
}
