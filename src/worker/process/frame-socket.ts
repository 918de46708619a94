import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import type { Frame } from '../../protocol/frames/frame-format.js';
import { FrameReader } from '../../protocol/frames/frame-reader.js';
import { UsedBuffers } from './used-buffers.js';

/** Large tensors come in pieces of this size; the system keeps about as much of a socket. */
const CHUNK_BYTES = 2 ** 18;

export interface FrameSocketObserver {
  /** As for {@link FrameReader}: a message without large views is to be read at once. */
  received(frame: Frame): void;
  /** What had come is read. */
  read?(): void;
  /** The other side has closed its end. */
  ended(): void;
  /** What came cannot be read, or not be kept: nothing more can be. */
  failed(error: unknown): void;
}

/**
 * The socket that frames come from. Several threads may have one of these for the same socket, of which one reads: it
 * hands the socket over between two frames, with what it has read of the next ones.
 */
export class FrameSocket {
  readonly #observer: FrameSocketObserver;
  readonly #socket: Socket;
  readonly #reader: FrameReader;
  readonly #used = new UsedBuffers();
  #isReading = false;
  #handOver: ((rest: Uint8Array<ArrayBuffer>) => void) | undefined;

  /** Call {@link readOn} at once. */
  constructor(file: number, observer: FrameSocketObserver) {
    this.#observer = observer;
    this.#reader = new FrameReader(
      (frame) => {
        observer.received(frame);
        return this.#handOver === undefined;
      },
      (bytes) => this.#used.take(bytes),
    );
    const options: SocketConstructorOpts & Pick<ConnectOpts, 'onread'> = {
      fd: file,
      readable: true,
      writable: false,
      // Into one buffer, instead of a new one for each piece.
      onread: {
        buffer: new Uint8Array(CHUNK_BYTES),
        callback: (bytes, buffer) => {
          const isReadingOn = this.#push(buffer.subarray(0, bytes));
          observer.read?.();
          return isReadingOn;
        },
      },
    };
    this.#socket = new Socket(options);
    this.#socket.on('end', observer.ended);
    this.#socket.on('error', observer.ended);
  }

  /**
   * Reads from now on.
   *
   * @param rest bytes that another thread has read of the next frames.
   */
  readOn(rest: Uint8Array): void {
    if (this.#push(rest)) this.#socket.resume();
  }

  /** Takes buffers of frames that nobody reads any more. */
  useAgain(buffers: readonly ArrayBuffer[]): void {
    for (const buffer of buffers) this.#used.add(buffer);
  }

  /** Stops reading, at once or at the end of a frame that has begun. @param to gets what was read of the next frames. */
  handOver(to: (rest: Uint8Array<ArrayBuffer>) => void): void {
    if (this.#isReading || !this.#reader.isBetweenFrames) {
      this.#handOver = to;
      return;
    }
    this.#socket.pause();
    to(new Uint8Array());
  }

  /** @returns whether to read more. */
  #push(chunk: Uint8Array): boolean {
    let rest: Uint8Array;
    this.#isReading = true;
    try {
      rest = this.#reader.push(chunk);
    } catch (error) {
      this.#observer.failed(error);
      return false;
    }
    this.#isReading = false;
    const to = this.#handOver;
    if (to === undefined || !this.#reader.isBetweenFrames) return true;
    this.#handOver = undefined;
    to(rest.slice());
    return false;
  }
}
