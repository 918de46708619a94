import { chmodSync, statSync, utimesSync, writeFileSync } from 'node:fs';

const LONG_AGO = 1_600_000_000;

/**
 * Writes the file in place with an mtime of long ago, as tar, rsync -t and cp -p do. Of contents of the same size only
 * the ctime tells, which is another one than before.
 */
export function writeLongAgo(path: string, contents: string | Uint8Array): void {
  // The clock of the file system has steps of some milliseconds.
  untilCtimeChanges(path, () => {
    writeFileSync(path, contents);
    utimesSync(path, LONG_AGO, LONG_AGO);
  });
}

/** Changes the mode of the file, and so its ctime. */
export function changeMode(path: string): void {
  untilCtimeChanges(path, () => chmodSync(path, 0o600));
}

function untilCtimeChanges(path: string, change: () => void): void {
  const ctime = () => statSync(path, { bigint: true, throwIfNoEntry: false })?.ctimeNs;
  const before = ctime();
  do change();
  while (ctime() === before);
}
