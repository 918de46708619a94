import { printableLines } from './printable.js';

/** Exit codes: 0 for success, 1 for a failure, 2 for wrong usage. */
export const FAILED = 1;
export const WRONG_USAGE = 2;

/** Prints a report as JSON or as tables. The tables escape what they show, the JSON only some of it. */
export function print<T>(json: boolean | undefined, report: T, tables: (report: T) => string): void {
  const text = json === true ? printableLines(JSON.stringify(report, null, 2)) : tables(report);
  process.stdout.write(`${text}\n`);
}

/** Shows how a command gets on. Its library is only loaded by commands that do. */
export async function progressOf(what: string) {
  const { progressBar } = await import('./progress-bar.js');
  return progressBar(what);
}

/** Says on stderr what holds a command up, once. */
export function sayOnce(what: string): (reason: string) => void {
  let wasSaid = false;
  return (reason) => {
    if (!wasSaid) process.stderr.write(`infermux: ${what}: ${reason}\n`);
    wasSaid = true;
  };
}
