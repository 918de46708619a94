import type { BigIntStats } from 'node:fs';

/** What the file system says about a file without a look at its contents. */
export type FileStamp = Readonly<Pick<BigIntStats, 'size' | 'mtimeNs' | 'ctimeNs' | 'ino' | 'dev'>>;

/** A file as it was at one moment. */
export interface FileIdentity {
  /** Absolute. */
  readonly path: string;
  readonly stamp: FileStamp;
  /** Of its contents, in hexadecimal digits; undefined when nobody has read them. */
  readonly sha256: string | undefined;
}

export function stampOf({ size, mtimeNs, ctimeNs, ino, dev }: BigIntStats): FileStamp {
  return { size, mtimeNs, ctimeNs, ino, dev };
}

export function areSameStamps(one: FileStamp, other: FileStamp): boolean {
  return one.ctimeNs === other.ctimeNs && one.dev === other.dev && areWrittenAlike(one, other);
}

/**
 * Whether the stamps differ in ctime and device at most. Both also change while the contents stay: with the mode, the
 * owner, a link or a mount.
 */
export function areWrittenAlike(one: FileStamp, other: FileStamp): boolean {
  return one.size === other.size && one.mtimeNs === other.mtimeNs && one.ino === other.ino;
}

/**
 * Whether the file was neither written nor replaced since. The ctime alone tells, and nobody can set it back. Inode and
 * device are left out: some network file systems make them up anew at each call.
 */
export function isUntouched(now: FileStamp, before: FileStamp): boolean {
  return now.size === before.size && now.mtimeNs === before.mtimeNs && now.ctimeNs === before.ctimeNs;
}
