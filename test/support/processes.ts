import { readdirSync, readFileSync } from 'node:fs';

/** Ids of the processes with this variable in their environment, zombies left out. On Linux alone. */
export function processesWith(variable: string, value: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const isMarked = readFileSync(`/proc/${name}/environ`, 'latin1').split('\0').includes(`${variable}=${value}`);
      return isMarked && stateOf(Number(name)) !== 'Z' ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** The letter of a process's state, such as `Z` for one that has ended and was not waited for. */
export function stateOf(pid: number): string | undefined {
  return /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1];
}
