import { stat } from 'node:fs/promises';
import { otherWriters, thisUser } from '../../common/files/other-writers.js';
import type { Log } from '../../observability/log.js';

/** Warns, once for each path, of files and folders that the engine relies on and that others may change. */
export class OtherWritersLog {
  readonly #log: Log;
  readonly #seen = new Set<string>();

  constructor(log: Log) {
    this.#log = log;
  }

  /**
   * Looks at who may write what is at the path. That it belongs to another user is usual: programs and models are often
   * installed by one user and used by another.
   *
   * @param what names it in the warning.
   */
  async look(what: string, path: string): Promise<void> {
    if (this.#seen.has(path)) return;
    this.#seen.add(path);
    const found = await stat(path).catch(() => undefined);
    const others = found && otherWriters(found, thisUser());
    if (others === undefined || others.who === 'owner') return;
    this.#log.write('warn', { path, reason: `it ${others.what}` }, `${what} may be changed by others: use chmod go-w`);
  }
}
