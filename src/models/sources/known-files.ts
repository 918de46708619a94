import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import {
  areSameStamps,
  areWrittenAlike,
  type FileIdentity,
  type FileStamp,
  stampOf,
} from '../../common/files/file-stamp.js';
import { KeyedTasks } from '../../common/tasks/keyed-tasks.js';

/** Files up to this size are hashed when they are first seen. To read a larger one takes too long for that. */
const SMALL_BYTES = 2 ** 20;
/** The thread that hashes a large file also answers requests, so each piece is short. */
const PIECE_BYTES = 2 ** 18;

export interface KnownFile extends FileIdentity {
  readonly bytes: number;
  /** Names the contents. It stays when only the mode, the owner, the links or the mount of the file change. */
  readonly revision: string;
  /** When it was last written or replaced: milliseconds as of `Date.now()`. */
  readonly changedAt: number;
}

/** A file, and its contents if they had to be read. */
export interface SeenFile {
  readonly file: KnownFile;
  readonly contents: Buffer | undefined;
}

type FoundFile = Omit<KnownFile, 'sha256' | 'revision'>;

/** Remembers files by path, and tells whether their contents are still the same. */
export class KnownFiles {
  readonly #known = new Map<string, KnownFile>();
  readonly #turns = new KeyedTasks();

  /**
   * Looks at the file. Its contents are read if it is small and new, or if only its ctime or device has changed: then
   * their hash decides. A large file that was never hashed counts as changed then.
   *
   * @throws Error when it is missing or is not a file, or when the system cannot answer.
   */
  async look(path: string): Promise<SeenFile> {
    const found = await lookAt(path);
    const known = this.#known.get(path);
    if (known !== undefined && areSameStamps(known.stamp, found.stamp)) return { file: known, contents: undefined };
    // One after the other, so that all agree on the revision.
    const before = this.#turns.get(path);
    const again = async () => this.#decide(await lookAt(path));
    return this.#turns.add(path, before === undefined ? this.#decide(found) : before.then(again));
  }

  /** Forgets all files but these. */
  keepOnly(paths: ReadonlySet<string>): void {
    for (const path of this.#known.keys()) if (!paths.has(path)) this.#known.delete(path);
  }

  /** @param found is older than the contents are when they are read. So contents that change meanwhile are seen later. */
  async #decide(found: FoundFile): Promise<SeenFile> {
    const { path } = found;
    const known = this.#known.get(path);
    if (known !== undefined && areSameStamps(known.stamp, found.stamp)) return { file: known, contents: undefined };
    const isWrittenAlike = known !== undefined && areWrittenAlike(known.stamp, found.stamp);
    const contents = found.bytes <= SMALL_BYTES ? await readFile(path) : undefined;
    let hash: string | undefined;
    if (contents !== undefined) hash = createHash('sha256').update(contents).digest('hex');
    else if (isWrittenAlike) hash = await hashOf(path);
    const isSame = isWrittenAlike && hash === known.sha256;
    const file = { ...found, sha256: hash, revision: isSame ? known.revision : revisionOf(found.stamp) };
    this.#known.set(path, file);
    return { file, contents };
  }
}

async function lookAt(path: string): Promise<FoundFile> {
  const found = await stat(path, { bigint: true });
  if (!found.isFile()) throw new Error(`${path} is not a file; expected an ONNX or ORT file`);
  const { size, mtimeMs, ctimeMs } = found;
  // A copy may keep the mtime of its original, but not its ctime.
  const changedAt = Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
  return { path, bytes: Number(size), stamp: stampOf(found), changedAt };
}

function revisionOf({ size, mtimeNs, ctimeNs, ino, dev }: FileStamp): string {
  return [size, mtimeNs, ctimeNs, ino, dev].join(':');
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: PIECE_BYTES })) hash.update(piece as Buffer);
  return hash.digest('hex');
}
