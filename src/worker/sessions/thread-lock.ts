import { readFileSync, readlinkSync } from 'node:fs';
import { open, readFile, rename, rm, stat } from 'node:fs/promises';

/** Where a holder cannot be looked at, its lock is worth nothing after so long. */
const STALE_MS = 600_000;
/** Whoever makes a lock writes its name into it within that time. */
const NAMELESS_MS = 5_000;

/** Who holds a lock: a thread of a process, told from another one of the same number by when it was started. */
interface Holder {
  readonly pid: number;
  /** Where these numbers mean something: the run of the system, and on it the container. */
  readonly world: string | undefined;
  /** `/proc/<pid>/task/<tid>/stat`, and the start time in it, where there is such a file. */
  readonly thread: string | undefined;
  readonly startedAt: string | undefined;
}

/**
 * Takes a lock that its holder's death gives back: a file that names the thread that made it.
 *
 * It saves work, and is no proof against all races: two threads may both find a dead holder's lock, and both take it. Who
 * holds it must finish by renaming what it made into place.
 *
 * @returns gives the lock back; undefined when another thread holds it.
 * @throws Error when the file cannot be written.
 */
export async function tryLock(path: string): Promise<(() => Promise<void>) | undefined> {
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      const handle = await open(path, 'wx', 0o600);
      try {
        await handle.writeFile(JSON.stringify(thisThread()));
      } finally {
        await handle.close();
      }
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (await isHeld(path)) return undefined;
      await removeDead(path);
    }
  }
  return undefined;
}

/** Another thread may have found the same holder dead, and taken the lock since: then it is put back. */
async function removeDead(path: string): Promise<void> {
  const aside = `${path}.${process.pid}.dead`;
  await rename(path, aside).catch(() => undefined);
  if (await isHeld(aside)) await rename(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

async function isHeld(path: string): Promise<boolean> {
  const age = await stat(path).then(
    ({ mtimeMs }) => Date.now() - mtimeMs,
    () => undefined,
  );
  if (age === undefined) return false;
  const holder = await readHolder(path);
  if (holder === undefined) return age < NAMELESS_MS;
  const { pid, world, thread, startedAt } = holder;
  if (world !== thisWorld()) return age < STALE_MS;
  if (thread !== undefined) return startOf(thread) === startedAt;
  return isAlive(pid) && age < STALE_MS;
}

async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder;
  } catch {
    return undefined;
  }
}

function thisThread(): Holder {
  const { pid } = process;
  const world = thisWorld();
  try {
    // Resolved by the thread that asks.
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

/** Field 22 of proc_pid_stat(5); the second one is a name in parentheses that may hold anything. */
function startOf(thread: string): string | undefined {
  try {
    const text = readFileSync(thread, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
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
