import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

/** A program that runs beside the test. */
export interface Program {
  readonly pid: number;
  /** What it has written so far. */
  readonly output: () => string;
  readonly exited: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
}

const running = new Set<ChildProcess>();
// Nothing may outlive a test that fails.
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export function startProgram(
  command: readonly string[],
  { cwd, env }: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Program {
  const [name, ...args] = command as [string, ...string[]];
  const child = spawn(name, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd, env: { ...process.env, ...env } });
  running.add(child);
  let output = '';
  child.stdout.on('data', (bytes) => (output += bytes));
  child.stderr.on('data', (bytes) => (output += bytes));
  child.on('error', (error) => (output += error.message));
  const exited = once(child, 'exit').then(([code, signal]) => {
    running.delete(child);
    return (code ?? signal) as number | NodeJS.Signals;
  });
  return { pid: child.pid as number, output: () => output, exited, kill: (signal) => void child.kill(signal) };
}

/** Waits until something holds. */
export async function until(holds: () => boolean | Promise<boolean>, what: string, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`${what} did not come to be within ${ms} ms`);
    await sleep(10);
  }
}
