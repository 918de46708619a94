import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { readTextFile } from './read-file.js';
import { isUnanswered, undefinedIfNotThere } from './system-errors.js';
import { unlinkNow } from './write-file.js';

/** Age at which a lock is void if its holder cannot be examined. */
const STALE_MS = 600_000;
/** Age at which a lock without a name in it is void: its maker writes the name at once. */
const NAMELESS_MS = 5_000;

/** The thread that holds a lock. Its start time tells it from a later thread with the same numbers. */
interface Holder {
  readonly pid: number;
  /** The scope of these numbers: the boot of the system and the container. */
  readonly world: string | undefined;
  /** `/proc/<pid>/task/<tid>/stat`, and the start time in it; undefined on systems without that file. */
  readonly thread: string | undefined;
  readonly startedAt: string | undefined;
}

/**
 * Takes a lock: a file that names the thread that made it. The lock ends with its holder's life.
 *
 * It saves work, and does not exclude every race: two threads may both find the lock of a dead holder, and both take
 * it. So the holder must finish by renaming its work into place.
 *
 * It is written at once, in the thread that takes it, and not synced: after a loss of power its holder is dead.
 *
 * @returns a function that gives the lock back; undefined when another thread holds the lock.
 * @throws Error when the file cannot be written, or when the system cannot say who holds the lock.
 */
export async function tryLock(path: string): Promise<(() => Promise<void>) | undefined> {
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      writeFileSync(path, JSON.stringify(thisThread()), { mode: 0o600, flag: 'wx' });
      return async () => unlinkNow(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (await isHeld(path)) return undefined;
      await removeDead(path);
    }
  }
  return undefined;
}

/** Removes a dead holder's lock. If another thread has removed it and taken the lock since, that lock is put back. */
async function removeDead(path: string): Promise<void> {
  const aside = `${path}.${randomUUID()}.tmp`;
  await rename(path, aside).catch(() => undefined);
  if (await isHeld(aside)) await rename(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function isHeld(path: string): Promise<boolean> {
  const found = await stat(path).catch(undefinedIfNotThere);
  if (found === undefined) return false;
  const age = Date.now() - found.mtimeMs;
  const holder = await readHolder(path);
  if (holder === undefined) return age < NAMELESS_MS;
  const { pid, world, thread, startedAt } = holder;
  if (world !== thisWorld()) return age < STALE_MS;
  if (thread !== undefined) return startOf(thread) === startedAt;
  return isAlive(pid) && age < STALE_MS;
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse((await readTextFile(path)).text) as Holder;
  } catch (error) {
    if (isUnanswered(error)) throw error;
    return undefined;
  }
}

function thisThread(): Holder {
  const { pid } = process;
  const world = thisWorld();
  try {
    // The link names the thread that reads it.
    const thread = `/proc/${readlinkSync('/proc/thread-self')}/stat`;
    return { pid, world, thread, startedAt: startOf(thread) };
  } catch {
    return { pid, world, thread: undefined, startedAt: undefined };
  }
}

function thisWorld(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`;
  } catch {
    return undefined;
  }
}

/**
 * Returns field 22 of proc_pid_stat(5); undefined when there is no such thread. Field 2 is a name in parentheses, which
 * may contain any character.
 */
function startOf(thread: string): string | undefined {
  try {
    const text = readFileSync(thread, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch (error) {
    // A thread that ends while its file is read.
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined;
    return undefinedIfNotThere(error);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
