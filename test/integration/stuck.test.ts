import { type ChildProcess, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { endlessLoadModel, endlessRunModel, modelDirectory } from '../support/onnx-models.js';
import { until } from '../support/until.js';

const CHILD = fileURLToPath(new URL('../support/stuck-child.mjs', import.meta.url));
const BOUND_MS = 20_000;
const TEST_MS = 120_000;
const KILLED = process.platform === 'win32' ? { code: 1, signal: null } : { code: null, signal: 'SIGALRM' };

interface Stuck {
  /** A model, or a place in a handler and a way. */
  readonly what: string;
  readonly how: string;
  readonly engines?: number;
  /** In each engine. */
  readonly replicas?: number;
  /** A file descriptor, or `pipe`, which nobody reads. Default: it is read. */
  readonly stderr?: number | 'pipe' | 'closed';
}

/** A child process that gets stuck. */
class StuckChild {
  readonly ended: Promise<void>;
  readonly #child: ChildProcess;
  code: number | null = null;
  signal: NodeJS.Signals | null = null;
  stdout = '';
  stderr = '';
  /** Milliseconds from the beginning of its end to the end. */
  endMs = 0;

  constructor(directory: string, { what, how, engines = 1, replicas = 1, stderr }: Stuck) {
    const args = [CHILD, directory, what, how, String(engines), String(replicas)];
    const [command, ...rest] =
      stderr === 'closed'
        ? ['sh', '-c', 'exec "$0" "$@" 2>&-', process.execPath, ...args]
        : [process.execPath, ...args];
    const child = spawn(command as string, rest, {
      stdio: ['ignore', 'pipe', typeof stderr === 'number' ? stderr : 'pipe', 'pipe'],
    });
    this.#child = child;
    let endsAt = 0;
    child.stdout?.on('data', (chunk) => {
      this.stdout += chunk;
      if (endsAt === 0 && this.stdout.includes('ending\n')) endsAt = performance.now();
    });
    if (stderr === undefined) {
      child.stderr?.on('data', (chunk) => {
        this.stderr += chunk;
      });
    }
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) => {
        Object.assign(this, { code, signal, endMs: performance.now() - endsAt });
        // What is left in a pipe that nobody reads would keep it open, and so would what a thread waited for.
        if (stderr === 'pipe') child.stderr?.destroy();
        this.#pipe.destroy();
      });
      child.on('close', () => resolve());
    });
  }

  /** Lets one stuck thread of a handler go on. */
  release(): void {
    this.#pipe.write('\n');
  }

  get #pipe(): Writable {
    return this.#child.stdio[3] as Writable;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** What it says of the threads that are stuck, line by line. */
  get lastWords(): string[] {
    return this.stderr.split('\n').filter((line) => line.startsWith('infermux: '));
  }
}

const directory = modelDirectory({ 'endless-run': endlessRunModel(), 'endless-load': endlessLoadModel() });
const children: StuckChild[] = [];

function start(stuck: Stuck): StuckChild {
  const child = new StuckChild(directory, stuck);
  children.push(child);
  return child;
}

afterAll(() => {
  for (const child of children) child.kill();
});

const OF_HANDLER = 'app-0 \\(unanswered: a request of its handler\\)';

/** Each waits for 20 s and takes hardly any processor time, so they run beside each other. */
const killed = [
  { what: 'endless-run', how: 'exit', of: ['default-0 \\(unanswered: run of model "endless-run@1"\\)'] },
  { what: 'endless-load', how: 'destroy', of: ['default-0 \\(unanswered: run of model "endless-load@1"\\)'] },
  { what: 'handle native', how: 'exit', engines: 2, replicas: 2, of: Array(2).fill([OF_HANDLER, 'app-1.*']).flat() },
  { what: 'handle native', how: 'close', of: [OF_HANDLER] },
  { what: 'handle native', how: 'destroy', of: [OF_HANDLER] },
  { what: 'handle native', how: 'leave', of: [OF_HANDLER] },
  { what: 'handle native', how: 'listeners', of: [OF_HANDLER] },
  { what: 'loadModel native', how: 'uncaught', of: [OF_HANDLER] },
  { what: 'checkHealth native', how: 'sigterm', of: ['app-0 \\(unanswered: health\\)'] },
  { what: 'reconfigure native', how: 'exit', of: ['app-0 \\(unanswered: reconfigure\\)'] },
  { what: 'import native', how: 'exit', of: ['app-0 \\(unanswered: its start\\)'] },
].map((stuck) => ({ engines: 1, ...stuck, child: start(stuck) }));

const mute = [
  { name: 'closed', how: 'exit', stderr: 'closed' as const },
  {
    name: 'on a full disk',
    how: 'exit',
    stderr: process.platform === 'linux' ? openSync('/dev/full', 'w') : undefined,
  },
  { name: 'a full pipe', how: 'full-stderr', stderr: 'pipe' as const },
].map(({ name, how, stderr }) => ({ name, child: start({ what: 'handle native', how, ...(stderr && { stderr }) }) }));

const inWorker = start({ what: 'handle native', how: 'worker' });

const SILENT = { code: 7, signal: null, stdout: 'ending\nlistener got 7\n', stderr: '' };

it.each(killed)(
  'a process with $engines engine(s) stuck in $what ends by $how after 20 s, and says once why',
  async ({ child, how, of }) => {
    await child.ended;
    const { code, signal, stdout, stderr, lastWords, endMs } = child;
    expect({ code, signal }, stderr).toEqual(KILLED);
    expect(stdout).toContain(`listener got ${how === 'uncaught' ? 1 : 7}\n`);
    expect(lastWords.length, stderr).toBe(1);
    expect(lastWords[0]).toMatch(
      new RegExp(`: ${of.map((each) => `replica ${each}`).join(', ')}\\. The process kills`),
    );
    if (how !== 'uncaught' && how !== 'listeners') expect(stderr).toBe(`${lastWords[0]}\n`);
    expect(endMs).toBeGreaterThan(0.9 * BOUND_MS);
    expect(endMs).toBeLessThan(1.5 * BOUND_MS);
  },
  TEST_MS,
);

it('listeners of the program are called before, also after one that throws, until one exits', async () => {
  const { child } = killed.find(({ how }) => how === 'listeners') as (typeof killed)[0];
  await child.ended;
  expect(child.stdout).toBe('ending\nlistener got 7\n');
  expect(child.stderr).toContain('Error: a listener throws');
});

it.each(mute)(
  'a process whose stderr is $name ends too',
  async ({ child }) => {
    await child.ended;
    const { code, signal, stdout, endMs } = child;
    expect({ code, signal, stdout }).toEqual({ ...KILLED, stdout: 'ending\nlistener got 7\n' });
    expect(endMs).toBeLessThan(1.5 * BOUND_MS);
  },
  TEST_MS,
);

it(
  'a worker that holds an engine does not kill the process: it says why it does not end, and ends when it can',
  async () => {
    await until(() => inWorker.lastWords.length > 0);
    expect(inWorker.lastWords[0]).toContain('The worker that holds the engine waits for them.');
    inWorker.release();
    await inWorker.ended;
    const { code, signal, stdout } = inWorker;
    const said = 'ending\nlistener got 7\nthe worker ended with 7\n';
    expect({ code, signal, stdout }).toEqual({ code: 0, signal: null, stdout: said });
  },
  TEST_MS,
);

it.each([
  { what: 'handle spin', how: 'exit' },
  { what: 'handle wait', how: 'leave' },
  { what: 'handle spin', how: 'destroy' },
  { what: 'import wait', how: 'exit' },
])('JavaScript that does not return ($what) does not hold up $how, which keeps its exit code', async (stuck) => {
  const child = start(stuck);
  await child.ended;
  expect(child).toMatchObject(SILENT);
  expect(child.endMs).toBeLessThan(0.5 * BOUND_MS);
});

it('a thread that comes back from native code in time ends with its process, which keeps its exit code', async () => {
  const child = start({ what: 'handle native', how: 'exit' });
  await until(() => child.stdout.includes('ending\n'));
  child.release();
  await child.ended;
  expect(child).toMatchObject(SILENT);
});
