import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { type Counts, PROCESS_FILES } from '../../protocol/frames/frame-format.js';
import { readMessage } from '../../protocol/frames/frame-message.js';
import { FrameReader } from '../../protocol/frames/frame-reader.js';
import { type Launch, startProcess } from './launch.js';
import { OneByOne } from './one-by-one.js';

export interface ProcessObserver {
  received(message: unknown, counts: Counts): void;
}

interface Arrived {
  readonly message: unknown;
  readonly counts: Counts;
}

/** The exit code of Node for invalid options. */
const NOT_STARTED = 9;
/** What it takes a process to end after its sockets have closed. */
const CLOSED_MS = 1_000;

/** Processes that are there. They end with this one, however it ends; most ends it can hasten. */
const alive = new Set<ReplicaProcess>();

function killAll(): void {
  for (const each of alive) each.kill();
}

/**
 * A process that is a replica, or is ready to become one. It starts at once, and loads onnxruntime-node before it is told
 * anything. It does not keep this process up.
 */
export class ReplicaProcess {
  /** Resolves when the process is gone and all that it has sent was received, with the error that ended it. */
  readonly ended: Promise<Error | undefined>;
  #child: ChildProcess | undefined;
  #observer: ProcessObserver | undefined;
  readonly #arrived = new OneByOne<Arrived>(
    ({ message, counts }) => this.#observer?.received(message, counts),
    (cause) => this.#unreadable(cause),
  );
  #cause: Error | undefined;
  #lastError: Error | undefined;
  #hasEnded = false;
  #bytesSent = 0;

  constructor(program: URL, launch: Launch) {
    let child: ChildProcess;
    try {
      child = startProcess(program, launch);
    } catch (cause) {
      this.#cause = cause as Error;
      this.#hasEnded = true;
      this.ended = Promise.resolve(this.#cause);
      return;
    }
    this.#child = child;
    if (alive.size === 0) process.prependListener('exit', killAll);
    alive.add(this);
    this.ended = this.#untilEnded(child);
    const reader = new FrameReader((frame) => {
      this.#arrived.add({ message: readMessage(frame), counts: frame.counts });
      return true;
    });
    const { messages, answers, life } = PROCESS_FILES;
    const sockets = [messages, answers, life].map((file) => this.#socket(file));
    for (const socket of sockets) {
      // A write that fails, since the process is gone: its end tells.
      socket?.on('error', () => undefined);
      socket?.resume();
      socket?.unref();
      socket?.once('close', () => this.#killSoon());
    }
    const received = this.#socket(answers);
    received?.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (cause) {
        this.#unreadable(cause);
      }
    });
    child.unref();
  }

  /** Undefined when it was not started. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Bytes that it has sent, as far as they were read. */
  get bytesRead(): number {
    return this.#socket(PROCESS_FILES.answers)?.bytesRead ?? 0;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Why it ended, or is about to. */
  get cause(): Error | undefined {
    return this.#cause;
  }

  /** Sets who learns of what it sends. */
  observe(observer: ProcessObserver): void {
    this.#observer = observer;
  }

  /**
   * Sends the pieces of a frame. They must stay as they are until they are answered. Of a process that is gone nothing is
   * heard.
   *
   * @returns for {@link hasLeft}.
   */
  send(pieces: readonly Uint8Array[]): number {
    for (const { length } of pieces) this.#bytesSent += length;
    const socket = this.#socket(PROCESS_FILES.messages);
    if (socket === undefined || this.#hasEnded) return this.#bytesSent;
    if (pieces.length > 1) socket.cork();
    for (const piece of pieces) socket.write(piece);
    if (pieces.length > 1) socket.uncork();
    return this.#bytesSent;
  }

  /** Whether the frame has left this process as a whole. */
  hasLeft(sent: number): boolean {
    const waiting = this.#socket(PROCESS_FILES.messages)?.writableLength ?? 0;
    return sent <= this.#bytesSent - waiting;
  }

  /** Ends it at once, whatever it is doing. @param cause why; the first one counts. */
  kill(cause?: Error): void {
    if (this.#hasEnded) return;
    this.#explain(cause);
    this.#child?.kill('SIGKILL');
  }

  /** It tells of an error that ends it, unless a handler has it go on. */
  mayDieOf(error: Error): void {
    this.#lastError = error;
  }

  /** Keeps why it is about to end, unless another reason is known. */
  #explain(cause: Error | undefined): void {
    this.#cause ??= cause;
  }

  /** Without its sockets it is none of this engine's any more. They close, too, when it ends by itself. */
  #killSoon(): void {
    setTimeout(() => this.kill(new Error('its process closed a socket of its own')), CLOSED_MS).unref();
  }

  /** What the process has started may hold its sockets open for long: they close when nothing comes any more. */
  #closeWhenRead(before = -1): void {
    const bytes = this.bytesRead;
    if (bytes !== before) setImmediate(() => this.#closeWhenRead(bytes));
    else for (const file of Object.values(PROCESS_FILES)) this.#socket(file)?.destroy();
  }

  /** What a handler writes there by mistake, or on purpose, is no message. */
  #unreadable(cause: unknown): void {
    this.#socket(PROCESS_FILES.answers)?.removeAllListeners('data').resume();
    this.kill(new Error('its process sent what cannot be read', { cause }));
  }

  #socket(file: number): Socket | undefined {
    return (this.#child?.stdio as (Socket | null | undefined)[] | undefined)?.[file] ?? undefined;
  }

  #untilEnded(child: ChildProcess): Promise<Error | undefined> {
    return new Promise((resolve) => {
      const end = () => {
        if (this.#hasEnded) return;
        this.#hasEnded = true;
        alive.delete(this);
        if (alive.size === 0) process.off('exit', killAll);
        resolve(this.#cause);
      };
      child.on('error', (error) => {
        if (child.pid === undefined) {
          this.#explain(new Error(`its process could not be started: ${error.message}`, { cause: error }));
          end();
        } else {
          // It may not be killed, since it runs as another user. It ends by itself when this socket closes.
          this.#socket(PROCESS_FILES.life)?.destroy();
        }
      });
      child.once('exit', (code, signal) => {
        // With code 1 Node ends after an error.
        this.#explain(code === 1 && this.#lastError !== undefined ? this.#lastError : endingOf(code, signal));
        setImmediate(() => this.#closeWhenRead());
      });
      // Later than the exit: all that it has sent was received.
      child.once('close', () => this.#arrived.whenDone(end));
    });
  }
}

function endingOf(code: number | null, signal: NodeJS.Signals | null): Error {
  if (signal === null) {
    const hint = code === NOT_STARTED ? ': Node refused its options (isolation.execArgv), see stderr' : '';
    return new Error(`its process exited with code ${code}${hint}`);
  }
  const hint =
    signal === 'SIGKILL' ? ', by the system or a user: it is what the system does when memory is used up' : '';
  return new Error(`its process was killed by ${signal}${hint}`);
}
