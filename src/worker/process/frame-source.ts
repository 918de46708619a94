import { writeSync } from 'node:fs';
import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { type Counts, PROCESS_FILES } from '../../protocol/frames/frame-format.js';
import { FrameReader } from '../../protocol/frames/frame-reader.js';
import { writeFrame } from '../../protocol/frames/frame-writer.js';
import type { FromThread, ToThread } from '../../protocol/messages.js';
import type { DyingMessage, ProcessSettings } from '../../protocol/process-messages.js';
import type { MessageSource } from '../loop/message-source.js';

/** Large tensors come in pieces of this size; the system keeps about as much of a socket. */
const CHUNK_BYTES = 2 ** 18;

export interface FrameSourceObserver {
  /** Settings came: the process is a replica from now on. */
  began(settings: ProcessSettings): void;
  /** A message came, which waits for its turn. Before it, {@link told}. */
  received(message: ToThread): void;
  told(counts: Counts): void;
  /** What the calling process has to know. */
  readonly counts: Counts;
}

/**
 * The messages of a process. They come over a socket whose event loop runs while there is nothing to do. Answers and
 * events go over another one, and are written before `post` returns: whatever ends the process afterwards, they are sent.
 */
export class FrameSource implements MessageSource {
  readonly #observer: FrameSourceObserver;
  readonly #queue: ToThread[] = [];
  #listener: ((message: ToThread) => void) | undefined;
  #isComing = false;

  constructor(observer: FrameSourceObserver) {
    this.#observer = observer;
    const reader = new FrameReader((message, counts) => this.#receive(message, counts));
    const options: SocketConstructorOpts & Pick<ConnectOpts, 'onread'> = {
      fd: PROCESS_FILES.messages,
      readable: true,
      writable: false,
      // Into one buffer, instead of a new one for each piece.
      onread: {
        buffer: new Uint8Array(CHUNK_BYTES),
        callback: (bytes, buffer) => {
          reader.push(buffer.subarray(0, bytes));
          this.#bring();
          return true;
        },
      },
    };
    const socket = new Socket(options);
    // The engine is gone.
    socket.on('end', () => process.exit());
    socket.on('error', () => process.exit());
    socket.resume();
  }

  next(): ToThread | undefined {
    return this.#queue.shift();
  }

  onMessage(listener: (message: ToThread) => void): void {
    this.#listener = listener;
    this.#bring();
  }

  close(): void {
    this.#listener = undefined;
  }

  post(message: FromThread | DyingMessage): void {
    for (const piece of writeFrame(message, this.#observer.counts)) writeWhole(PROCESS_FILES.answers, piece);
  }

  #receive(message: unknown, counts: Counts): void {
    this.#observer.told(counts);
    if (message === undefined) return;
    const received = message as ProcessSettings | ToThread;
    if ('settings' in received) {
      this.#observer.began(received);
      return;
    }
    this.#observer.received(received);
    this.#queue.push(received);
  }

  /** Brings one message a turn: what it does at once is done before the next. */
  #bring(): void {
    if (this.#isComing || this.#listener === undefined) return;
    const message = this.#queue.shift();
    if (message === undefined) return;
    this.#isComing = true;
    setImmediate(() => {
      this.#isComing = false;
      this.#bring();
    });
    this.#listener(message);
  }
}

/** The socket blocks: nothing else may be done before all is written. */
function writeWhole(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}
