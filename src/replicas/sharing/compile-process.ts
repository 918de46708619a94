import { type ChildProcess, fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../common/clock.js';
import { messageOf } from '../../common/errors.js';
import { ownFile } from '../../common/files/own-file.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { CompileMessage, CompileRequest, CompileResult } from '../../protocol/compile-messages.js';

/** The process's program, as seen from this module. */
const PROGRAM = '../../worker/weights/compiler.js';
/** A compilation takes seconds, or minutes where the engine leaves it little time. */
const LONGEST_MS = 600_000;
const CHUNK_BYTES = 2 ** 20;
/** Characters that are kept of what the process writes. */
const MOST_WRITTEN = 300;

export type CompileAnswer =
  | CompileResult
  /** The process ended, or was ended, before it answered. */
  | { readonly kind: 'died'; readonly reason: string };

/** What compiles one model; tests have their own. */
export interface Compilation {
  /** Never rejects. */
  readonly answer: Promise<CompileAnswer>;
  /** Ends it. Resolves when nothing is left of it. */
  close(): Promise<void>;
}

/**
 * A process that compiles one model for the weight store. Its priority is the lowest, so it takes what others leave. It
 * does not keep this process up. One that is ended in its work leaves nothing in the store; one whose engine is gone with
 * its process ends by itself, when onnxruntime lets it.
 */
export class CompileProcess implements Compilation {
  readonly answer: Promise<CompileAnswer>;
  #child: ChildProcess | undefined;
  #result: CompileAnswer | undefined;
  /** What is left behind if it ends now. */
  #remains: readonly string[] = [];
  #written = '';
  readonly #exiting = () => this.#endNow();

  constructor(model: ModelReference, settings: Pick<CompileRequest, 'session' | 'weightStore'>, clock: Clock) {
    process.once('exit', this.#exiting);
    const cancel = clock.schedule(() => {
      this.#result ??= { kind: 'died', reason: `it was not done after ${LONGEST_MS / 60_000} minutes` };
      void this.close();
    }, LONGEST_MS);
    this.answer = this.#run(model, settings).finally(() => {
      cancel();
      process.off('exit', this.#exiting);
    });
  }

  async close(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.answer;
  }

  async #run(model: ModelReference, settings: Pick<CompileRequest, 'session' | 'weightStore'>): Promise<CompileAnswer> {
    let child: ChildProcess;
    try {
      child = start();
    } catch (cause) {
      return notStarted(cause);
    }
    this.#child = child;
    const ended = endOf(child);
    this.#listen(child);
    try {
      send(child, model, settings);
    } catch (cause) {
      this.#result = { kind: 'died', reason: `it could not be told what to compile: ${messageOf(cause)}` };
      child.kill('SIGKILL');
    }
    const how = await ended;
    for (const path of this.#remains) await rm(path, { recursive: true, force: true }).catch(() => undefined);
    const written = this.#written.trim().split('\n').at(-1);
    return this.#result ?? { kind: 'died', reason: `its process ended: ${how}${written && ` (${written})`}` };
  }

  #listen(child: ChildProcess): void {
    child.on('error', (error) => {
      this.#result ??= notStarted(error);
    });
    child.on('message', (received) => {
      const message = received as CompileMessage;
      if (message.kind === 'building') this.#remains = message.paths;
      else {
        this.#result ??= message;
        this.#remains = [];
      }
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#written = (this.#written + text).slice(-MOST_WRITTEN);
    });
  }

  /** At the end of this process, which waits for nothing. */
  #endNow(): void {
    this.#child?.kill('SIGKILL');
    for (const path of this.#remains) {
      try {
        rmSync(path, { recursive: true, force: true, maxRetries: 3 });
      } catch {
        // The next compilation for the store removes it.
      }
    }
  }
}

function notStarted(cause: unknown): CompileAnswer {
  return { kind: 'failed', reason: `no process can be started for it: ${messageOf(cause)}` };
}

/** @throws Error when no process can be started. */
function start(): ChildProcess {
  // Its executable is the application, which would begin anew.
  if (process.getBuiltinModule?.('node:sea')?.isSea() === true) throw new Error('this is a single executable');
  // Not with the options of this process: two debuggers would want one port, and instruments the same files.
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = fork(fileURLToPath(ownFile(PROGRAM, import.meta.url).href), [], {
    ...{ env, execArgv: [], serialization: 'advanced' },
    // Not detached: Linux gives each session of processes its share of the cores, whatever their priority.
    stdio: ['pipe', 'ignore', 'pipe', 'ipc'],
  });
  child.unref();
  child.channel?.unref();
  for (const stream of [child.stdin, child.stderr]) (stream as Socket | null | undefined)?.unref();
  try {
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It is gone already, or the system does not allow it.
  }
  return child;
}

/** @throws Error when the settings cannot be sent. */
function send(
  child: ChildProcess,
  { contents, ...model }: ModelReference,
  settings: Pick<CompileRequest, 'session' | 'weightStore'>,
): void {
  const { stdin } = child;
  // No process was started, which an event tells.
  if (child.pid === undefined || !stdin) return;
  // If it is gone by then, its end is the answer.
  stdin.on('error', () => undefined);
  child.send({ model, contentBytes: contents?.byteLength, ...settings } satisfies CompileRequest, () => undefined);
  if (contents === undefined) stdin.end();
  else Readable.from(chunksOf(contents), { objectMode: false }).pipe(stdin);
}

/** Resolves with how the process ended, when its last messages have been read. */
function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    // No process was started.
    if (child.pid === undefined) child.once('error', () => resolve(''));
    child.once('exit', (code, signal) => {
      const end = () => resolve(signal ?? `exit code ${code}`);
      if (child.connected) child.once('disconnect', end);
      else end();
    });
  });
}

function* chunksOf(contents: SharedArrayBuffer): Generator<Uint8Array> {
  const all = new Uint8Array(contents);
  // Copies: a stream does not take shared memory.
  for (let at = 0; at < all.length; at += CHUNK_BYTES) yield all.slice(at, at + CHUNK_BYTES);
}
