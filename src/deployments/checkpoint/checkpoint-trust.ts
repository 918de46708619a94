import { isSticky, type Ownership, otherWriters } from '../../common/files/other-writers.js';

/** What others could have done to a checkpoint, which says what code is run. */
export interface CheckpointDoubt {
  /** Whether anybody could have written the checkpoint. */
  readonly isRefused: boolean;
  /** A predicate that ends with what to do. */
  readonly reason: string;
}

/**
 * Returns the doubt about a checkpoint; undefined when only this user or root can have written it.
 *
 * Certain danger is refused: a file that anybody may write, and another user's file in a folder where anybody may put
 * one. Everything else is in use and only doubtful: network disks show other owners, containers run as root beside
 * files of the host's user, a folder is shared with a group. A folder that anybody may change is doubtful as well while
 * the file is this user's: who replaces the file becomes its owner.
 *
 * @param folder the folder that names the file, or that names the link to it.
 * @param user as in {@link otherWriters}.
 */
export function doubtCheckpoint(
  file: Ownership,
  folder: Ownership,
  user: number | undefined,
): CheckpointDoubt | undefined {
  const ofFile = otherWriters(file, user);
  const ofFolder = otherWriters(folder, user);
  const isOpen = ofFolder?.who === 'anybody';
  if (ofFile === undefined) {
    if (!isOpen || isSticky(folder)) return undefined;
    return { isRefused: false, reason: `lies in a folder that ${ofFolder.what}: use chmod go-w on the folder` };
  }
  const where = isOpen ? `, and its folder ${ofFolder.what}` : '';
  const isRefused = ofFile.who === 'anybody' || (ofFile.who === 'owner' && isOpen);
  const advice = ofFile.who === 'owner' ? 'chown it to the user of this process' : 'chmod 600 it';
  return {
    isRefused,
    reason: `${ofFile.what}${where}, and it says what code is run: check what it says, then ${advice}`,
  };
}
