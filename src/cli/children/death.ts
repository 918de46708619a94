import { printable } from '../terminal/printable.js';
import type { Phase } from './jobs.js';

/** Why a child process ended without an answer. */
export type Death =
  | { readonly cause: 'time'; readonly seconds: number }
  | { readonly cause: 'memory'; readonly bytes: number }
  | { readonly cause: 'exit'; readonly code: number | null; readonly signal: string | null };

/** Most characters of what a process wrote before its end. */
const MOST_WRITTEN = 300;

/**
 * Says what a model did to its process, and what to do. The model is the subject of the sentence.
 *
 * @param phase what the model was doing; undefined when it had not begun.
 * @param written what the process wrote at its end.
 */
export function describeDeath(death: Death, phase: Phase | undefined, written: string): string {
  const what = written.trim().slice(-MOST_WRITTEN);
  return `${sentence(death, phase)}${what === '' ? '' : `. The process wrote: ${printable(what)}`}`;
}

function sentence(death: Death, phase: Phase | undefined): string {
  if (phase === undefined) return `was not looked at, because its process ended while it started: ${howOf(death)}`;
  const when = phase === 'load' ? 'while it was loaded' : 'while it ran';
  if (death.cause === 'time') {
    const what = phase === 'load' ? 'did not load' : 'did not end a run';
    return `${what} within ${death.seconds} s. Perhaps it never does, and would hold a replica for good: do not serve it. If it only needs more time, give it that with --timeout SECONDS`;
  }
  if (death.cause === 'memory') {
    const megabytes = Math.round(death.bytes / 1e6).toLocaleString('en');
    return `needed more than ${megabytes} MB of memory ${when}, which is most of what is free here: try it where there is more, or do not serve it`;
  }
  return `killed its process: ${howOf(death)} ${when}. It would end a server, too: do not serve it`;
}

function howOf(death: Death): string {
  if (death.cause !== 'exit') return `it took too much ${death.cause}`;
  if (death.signal === null) return `exit code ${death.code}`;
  return death.signal === 'SIGKILL' ? 'SIGKILL (perhaps the system had no memory left)' : death.signal;
}
