import { type ChildProcess, fork } from 'node:child_process';
import { freemem, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { InfermuxError } from '../../index.js';
import { type Death, describeDeath } from './death.js';
import type { ChildMessage, JobMessage, JobName, Jobs, Phase } from './jobs.js';

/** What a model may take in its process. */
export interface Limits {
  /** For a load, and for a run. Default: 10 s, and one more for each 20 MB of the model's files. */
  readonly timeoutSeconds?: number | undefined;
  /** Memory of the process beside files that it maps. Default: four fifths of what is free. */
  readonly memoryBytes?: number;
}

export type Answer<Result> =
  | { readonly kind: 'result'; readonly result: Result }
  | { readonly kind: 'error'; readonly error: InfermuxError }
  /** The process is gone. `reason` is a sentence whose subject is the model. */
  | {
      readonly kind: 'death';
      readonly cause: Death['cause'];
      readonly phase: Phase | undefined;
      readonly reason: string;
    };

type AnyAnswer = Answer<Jobs[JobName]['result']>;
type Settle = (answer: AnyAnswer) => void;

const PROGRAM = fileURLToPath(new URL('./child-main.js', import.meta.url));
const LEAST_SECONDS = 10;
/** What a slow disk reads in a second. */
const BYTES_PER_SECOND = 20e6;
const MEMORY_SHARE = 0.8;
/** Characters that are kept of what the process writes. */
const MOST_WRITTEN = 2_000;

/**
 * A child process that loads and runs models, one job after the other. A model can kill it, hang in it or fill its memory
 * without harm to the command. The process ends with the command, however that ends.
 */
export class ModelProcess {
  readonly #child: ChildProcess;
  readonly #limits: Limits & { readonly memoryBytes: number };
  readonly #kill = () => void this.#child.kill('SIGKILL');
  #written = '';
  #answered = 0;
  #isAlive = true;
  /** Undefined until the model of the job begins. */
  #phase: Phase | undefined;
  #seconds = 0;
  #timer: NodeJS.Timeout | undefined;
  #settle: Settle | undefined;
  #progress: ((done: number, total: number) => void) | undefined;

  /** @param program the module that runs in the process. */
  constructor(limits: Limits = {}, program = PROGRAM) {
    const memoryBytes = limits.memoryBytes ?? defaultMemory();
    this.#limits = { ...limits, memoryBytes };
    const child = fork(program, [String(memoryBytes)], {
      // What native code writes must not reach the terminal.
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      serialization: 'advanced',
      // Its telemetry may leave a file in the working directory.
      env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' },
    });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#written = (this.#written + text).slice(-MOST_WRITTEN);
      });
    }
    child.on('message', (message) => this.#receive(message as ChildMessage));
    child.on('error', (cause) => {
      const error = new InfermuxError('FAILED_PRECONDITION', `a process for the model: ${cause.message}`, { cause });
      this.#settle?.({ kind: 'error', error });
      this.close();
    });
    child.once('close', (code, signal) => this.#died({ cause: 'exit', code, signal }));
    process.once('exit', this.#kill);
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Whether it has not answered any job yet. */
  get isFresh(): boolean {
    return this.#answered === 0;
  }

  /** Does the job. Ask for one at a time, and only while it is alive. */
  ask<Name extends JobName>(
    job: Name,
    given: Jobs[Name]['given'],
    progress?: (done: number, total: number) => void,
  ): Promise<Answer<Jobs[Name]['result']>> {
    this.#phase = undefined;
    this.#written = '';
    this.#progress = progress;
    return new Promise((resolve) => {
      this.#settle = resolve as Settle;
      // If it is gone, its end is the answer.
      this.#child.send({ job, given } as JobMessage, () => undefined);
    });
  }

  /** Ends the process. A job that is under way is not answered. */
  close(): void {
    this.#settle = undefined;
    this.#end();
  }

  #receive(message: ChildMessage): void {
    switch (message.kind) {
      case 'begins':
        this.#phase = message.phase;
        this.#seconds = this.#limits.timeoutSeconds ?? LEAST_SECONDS + Math.ceil(message.bytes / BYTES_PER_SECOND);
        break;
      case 'progress':
        this.#progress?.(message.done, message.total);
        break;
      case 'memory':
        this.#died({ cause: 'memory', bytes: this.#limits.memoryBytes });
        return;
      case 'result':
        this.#answer(message);
        return;
      case 'error':
        this.#answer({ kind: 'error', error: new InfermuxError(message.code, message.message) });
        return;
    }
    clearTimeout(this.#timer);
    // Before its model begins, the process only reads the directory, which may take its time.
    if (this.#phase === undefined) return;
    this.#timer = setTimeout(() => this.#died({ cause: 'time', seconds: this.#seconds }), 1_000 * this.#seconds);
  }

  #answer(answer: AnyAnswer): void {
    clearTimeout(this.#timer);
    this.#answered += 1;
    this.#settle?.(answer);
    this.#settle = undefined;
  }

  #died(death: Death): void {
    const reason = describeDeath(death, this.#phase, this.#written);
    this.#settle?.({ kind: 'death', cause: death.cause, phase: this.#phase, reason });
    this.close();
  }

  /** Does not wait until the process is gone: the system may not be able to end it soon, for instance in a bad disk. */
  #end(): void {
    this.#isAlive = false;
    clearTimeout(this.#timer);
    process.off('exit', this.#kill);
    this.#kill();
    this.#child.unref();
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.destroy();
    if (this.#child.connected) this.#child.disconnect();
  }
}

/** Elsewhere than on Linux and Windows, what is free does not count what caches would give back. */
function defaultMemory(): number {
  const free = process.platform === 'linux' || process.platform === 'win32' ? freemem() : totalmem();
  // 0 when there is no limit, or it is not known.
  return MEMORY_SHARE * Math.min(free, process.constrainedMemory() || Number.POSITIVE_INFINITY);
}

/**
 * Does one job in a process of its own.
 *
 * @param name of the model, for messages.
 * @throws InfermuxError as the job; `MODEL_LOAD_FAILED` or `INFERENCE_FAILED` when the model ends its process, or takes
 *   too much time or memory.
 */
export async function inModelProcess<Name extends JobName>(
  job: Name,
  given: Jobs[Name]['given'],
  { name, limits, progress }: { name: string; limits: Limits; progress?: (done: number, total: number) => void },
): Promise<Jobs[Name]['result']> {
  const child = new ModelProcess(limits);
  try {
    const answer = await child.ask(job, given, progress);
    if (answer.kind === 'result') return answer.result;
    if (answer.kind === 'error') throw answer.error;
    const code = answer.phase === 'run' ? 'INFERENCE_FAILED' : 'MODEL_LOAD_FAILED';
    throw new InfermuxError(code, `model ${name} ${answer.reason}`);
  } finally {
    child.close();
  }
}
