import { type ChildProcess, fork } from 'node:child_process';
import { rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Clock } from '../../common/clock.js';
import { messageOf } from '../../common/errors.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { CompileMessage, CompileRequest, CompileResult } from '../../protocol/compile-messages.js';

/** The process's program, as seen from this module. */
const PROGRAM = '../../worker/weights/compiler.js';
/** A compilation takes seconds, or minutes where the engine leaves it little time. */
const LONGEST_MS = 600_000;
const CHUNK_BYTES = 2 ** 20;

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
 * does not keep this process up, and ends with it; one that is ended in its work leaves nothing in the store.
 */
export class CompileProcess implements Compilation {
  readonly answer: Promise<CompileAnswer>;
  readonly #child: ChildProcess | undefined;
  readonly #ended: Promise<void>;
  /** What is left behind if it ends now. */
  #remains: readonly string[] = [];

  constructor(model: ModelReference, settings: Pick<CompileRequest, 'session' | 'weightStore'>, clock: Clock) {
    let child: ChildProcess;
    try {
      child = start();
    } catch (cause) {
      this.answer = Promise.resolve({ kind: 'failed', reason: `no process can be started: ${messageOf(cause)}` });
      this.#ended = Promise.resolve();
      return;
    }
    this.#child = child;
    let result: CompileAnswer | undefined;
    const cancel = clock.schedule(() => {
      result ??= { kind: 'died', reason: `it was not done after ${LONGEST_MS / 60_000} minutes` };
      child.kill('SIGKILL');
    }, LONGEST_MS);
    const kill = () => this.#killNow();
    process.once('exit', kill);
    child.on('message', (received) => {
      const message = received as CompileMessage;
      if (message.kind === 'building') this.#remains = message.paths;
      else {
        result ??= message;
        this.#remains = [];
      }
    });
    const ended = new Promise<string>((resolve) => {
      child.once('error', (error) => {
        result ??= { kind: 'failed', reason: `no process can be started: ${error.message}` };
        resolve('');
      });
      child.once('exit', (code, signal) => {
        const end = () => resolve(signal ?? `exit code ${code}`);
        // Its last messages may not have been read yet.
        if (child.connected) child.once('disconnect', end);
        else end();
      });
    });
    this.answer = ended.then(async (how) => {
      cancel();
      process.off('exit', kill);
      for (const path of this.#remains) await rm(path, { recursive: true, force: true }).catch(() => undefined);
      return result ?? { kind: 'died', reason: `its process ended: ${how}` };
    });
    this.#ended = this.answer.then(() => undefined);
    this.#send(child, model, settings);
  }

  close(): Promise<void> {
    this.#child?.kill('SIGKILL');
    return this.#ended;
  }

  #send(child: ChildProcess, model: ModelReference, settings: Pick<CompileRequest, 'session' | 'weightStore'>): void {
    const { contents, ...rest } = model;
    const request: CompileRequest = { model: rest, contentBytes: contents?.byteLength, ...settings };
    // If it is gone, its end is the answer.
    child.send(request, () => undefined);
    const { stdin } = child;
    // There is none where no process could be started.
    if (!stdin) return;
    (stdin as Socket).unref();
    stdin.on('error', () => undefined);
    if (contents === undefined) stdin.end();
    else Readable.from(chunksOf(contents), { objectMode: false }).pipe(stdin);
  }

  /** At the end of this process, which waits for nothing. */
  #killNow(): void {
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

function start(): ChildProcess {
  // Its executable is the application, which would begin anew.
  if (process.getBuiltinModule?.('node:sea')?.isSea() === true) throw new Error('this is a single executable');
  // Not with the options of this process: two debuggers would want one port, and instruments the same files.
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = fork(fileURLToPath(new URL(PROGRAM, import.meta.url).href), [], {
    ...{ env, execArgv: [], serialization: 'advanced' },
    // Not detached: Linux gives each session of processes its share of the cores, whatever their priority.
    stdio: ['pipe', 'ignore', 'ignore', 'ipc'],
  });
  child.unref();
  child.channel?.unref();
  try {
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  } catch {
    // It is gone already, or the system does not allow it.
  }
  return child;
}

function* chunksOf(contents: SharedArrayBuffer): Generator<Uint8Array> {
  const all = new Uint8Array(contents);
  // Copies: a stream does not take shared memory.
  for (let at = 0; at < all.length; at += CHUNK_BYTES) yield all.slice(at, at + CHUNK_BYTES);
}
