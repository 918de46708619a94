import type { Stats } from 'node:fs';
import { rm, stat } from 'node:fs/promises';
import { createFile, temporaryIn } from './write-file.js';

const ROOT = 0;
const MAY_WRITE = { group: 0o020, anybody: 0o002 } as const;
const STICKY = 0o1000;
const PERMISSIONS = 0o7777;

/** Whose a file or folder is, and who may write it. */
export type Ownership = Pick<Stats, 'uid' | 'gid' | 'mode'>;

export interface OtherWriters {
  /** `owner`: it belongs to another user. `group`: it is this user's, and others are in its group. */
  readonly who: 'anybody' | 'owner' | 'group';
  /** A predicate, such as `may be written by everybody (mode 666)`. */
  readonly what: string;
}

/**
 * Returns who may write a file or folder beside this user and root; undefined when nobody may. A group does not count
 * that is this user's alone: root's, and one with the user's number, as Debian and Ubuntu give to each user along with
 * a umask that lets it write.
 *
 * @param user id of the user of this process; undefined on Windows, where modes say nothing.
 */
export function otherWriters({ uid, gid, mode }: Ownership, user: number | undefined): OtherWriters | undefined {
  if (user === undefined) return undefined;
  const octal = (mode & PERMISSIONS).toString(8);
  if ((mode & MAY_WRITE.anybody) !== 0) return { who: 'anybody', what: `may be written by everybody (mode ${octal})` };
  if (uid !== user && uid !== ROOT) return { who: 'owner', what: `belongs to user ${uid}` };
  const isShared = (mode & MAY_WRITE.group) !== 0 && gid !== ROOT && gid !== uid;
  return isShared ? { who: 'group', what: `may be written by group ${gid} (mode ${octal})` } : undefined;
}

/** Whether only its owner may rename or remove a file in the folder, as in `/tmp`. */
export function isSticky({ mode }: Ownership): boolean {
  return (mode & STICKY) !== 0;
}

/** Id of the user whose rights this process has; undefined on Windows. */
export function thisUser(): number | undefined {
  return process.geteuid?.();
}

/** Whether files in the folder have the modes that they are given. Some mounted disks show one mode for all files. */
export async function keepsModes(folder: string): Promise<boolean> {
  const probe = temporaryIn(folder);
  try {
    await createFile(probe, '', 0o600);
    return ((await stat(probe)).mode & (MAY_WRITE.group | MAY_WRITE.anybody)) === 0;
  } catch {
    return true;
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}
