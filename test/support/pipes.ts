import { execFileSync } from 'node:child_process';

/** Makes a named pipe: whoever opens it to read waits for a writer. */
export function makePipe(path: string): string {
  execFileSync('mkfifo', [path]);
  return path;
}
