import { writeSync } from 'node:fs';
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { toErrorRecord } from '../../common/values/error-record.js';
import { freeBuffers } from '../../common/values/free-buffers.js';
import { type Counts, type Frame, PROCESS_FILES } from '../../protocol/frames/frame-format.js';
import { readMessage } from '../../protocol/frames/frame-message.js';
import { writeFrame } from '../../protocol/frames/frame-writer.js';
import type { FromThread, ToThread } from '../../protocol/messages.js';
import type { DyingMessage, ProcessSettings } from '../../protocol/process-messages.js';
import type { MessageSource } from '../loop/message-source.js';
import { FrameSocket } from './frame-socket.js';
import type { FromSide, ToSide } from './side-thread.js';
import { UsedBuffers } from './used-buffers.js';

export interface FrameSourceObserver {
  /** Settings came: the process is a replica from now on. */
  began(settings: ProcessSettings): void;
  /** A message came, which waits for its turn. Before it, {@link told}. */
  received(message: ToThread): void;
  told(counts: Counts): void;
  /** What the calling process has to know. */
  readonly counts: Counts;
}

/** A message that takes longer is worth the way of the next one through another thread, which is about 0.05 ms. */
const LONG_MS = 1;
/** Messages in a row that were answered sooner, until this thread reads again. */
const SHORT_ONES = 8;

/**
 * The messages of a process. They come over a socket whose event loop runs while there is nothing to do. While messages
 * take long, the side thread reads the socket, so that the next message is there when this thread has done with the last.
 *
 * Answers and events go over another socket, and are written before `post` returns: whatever ends the process afterwards,
 * they are sent.
 */
export class FrameSource implements MessageSource {
  readonly #observer: FrameSourceObserver;
  readonly #socket: FrameSocket;
  readonly #queue: ToThread[] = [];
  #listener: ((message: ToThread) => void) | undefined;
  #isComing = false;
  /** The port of the side thread. */
  #side: MessagePort | undefined;
  #reader: 'this thread' | 'side thread' | 'changing' = 'this thread';
  /** When the last message was taken. */
  #takenAt = 0;
  /** Messages since the last long one. */
  #shortOnes = 0;

  constructor(observer: FrameSourceObserver) {
    this.#observer = observer;
    // The engine is gone.
    this.#socket = new FrameSocket(PROCESS_FILES.messages, {
      received: (frame) => this.#receive(frame),
      read: () => this.#bring(),
      ended: () => process.exit(),
      failed: (error) => this.#die(error),
    });
    this.#socket.readOn(new Uint8Array());
  }

  /** Lets the thread at this port read while this one is busy. */
  use(side: MessagePort): void {
    this.#side = side;
    side.on('message', (told: FromSide) => {
      this.#hear(told);
      this.#bring();
    });
  }

  next(): ToThread | undefined {
    while (this.#queue.length === 0 && this.#side !== undefined) {
      const received = receiveMessageOnPort(this.#side) as { message: FromSide } | undefined;
      if (received === undefined) return undefined;
      this.#hear(received.message);
    }
    const message = this.#take();
    // Others may have come with it. It may wait for something, also for one of them.
    if (this.#queue.length > 0) this.#bringSoon();
    return message;
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
    if ('answer' in message) this.#decideWhoReads();
  }

  /** Takes buffers of tensors that nobody reads any more: large ones are used for the next tensors of the same size. */
  useAgain(buffers: readonly ArrayBuffer[]): void {
    const used = buffers.filter(UsedBuffers.isWorthwhile);
    freeBuffers(buffers.filter(UsedBuffers.isTooLarge));
    if (used.length === 0) return;
    if (this.#reader === 'side thread') this.#side?.postMessage({ used } satisfies ToSide, used);
    else this.#socket.useAgain(used);
  }

  #take(): ToThread | undefined {
    const message = this.#queue.shift();
    if (message !== undefined) this.#takenAt = performance.now();
    return message;
  }

  #decideWhoReads(): void {
    const isLong = performance.now() - this.#takenAt > LONG_MS;
    this.#shortOnes = isLong ? 0 : this.#shortOnes + 1;
    const side = this.#side;
    if (side === undefined) return;
    if (this.#reader === 'this thread' && isLong) {
      this.#reader = 'changing';
      this.#socket.handOver((rest) => {
        this.#reader = 'side thread';
        side.postMessage({ rest } satisfies ToSide, [rest.buffer]);
      });
    } else if (this.#reader === 'side thread' && this.#shortOnes >= SHORT_ONES) {
      this.#reader = 'changing';
      side.postMessage('hand back' satisfies ToSide);
    }
  }

  #hear(told: FromSide): void {
    if ('rest' in told) {
      this.#reader = 'this thread';
      this.#socket.readOn(told.rest);
    } else if ('failed' in told) {
      this.#die(told.failed);
    } else {
      try {
        this.#receive(told.frame);
      } catch (error) {
        this.#die(error);
      }
    }
  }

  /** Messages are lost: nothing that a handler listens to may hinder the end. */
  #die(error: unknown): never {
    try {
      this.post({ dying: toErrorRecord(error) });
    } finally {
      process.exit(1);
    }
  }

  #receive(frame: Frame): void {
    this.#observer.told(frame.counts);
    const message = readMessage(frame) as ProcessSettings | ToThread | undefined;
    if (message === undefined) return;
    if ('settings' in message) {
      this.#observer.began(message);
      return;
    }
    this.#observer.received(message);
    this.#queue.push(message);
  }

  /** Brings one message a turn: what it does at once is done before the next. */
  #bring(): void {
    if (this.#isComing || this.#listener === undefined) return;
    const message = this.#take();
    if (message === undefined) return;
    this.#bringSoon();
    this.#listener(message);
  }

  #bringSoon(): void {
    if (this.#isComing) return;
    this.#isComing = true;
    setImmediate(() => {
      this.#isComing = false;
      this.#bring();
    });
  }
}

/** The socket blocks: nothing else may be done before all is written. */
function writeWhole(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
}
