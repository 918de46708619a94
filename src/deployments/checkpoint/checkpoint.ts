import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { SerialQueue } from '../../common/serial-queue.js';

/** Content of a checkpoint; the owner of each part reads and checks it. */
export interface CheckpointContent {
  readonly deployments?: unknown;
  readonly endpoints?: unknown;
  readonly models?: unknown;
  readonly pins?: unknown;
}

const FORMAT = 'infermux checkpoint';
/** Raised when older files cannot be read as they are. */
const VERSION = 1;
const PARTS: readonly string[] = ['deployments', 'endpoints', 'models', 'pins'] satisfies (keyof CheckpointContent)[];

/** A file with the desired state of an engine, from which the next engine starts. It is complete at every moment. */
export class Checkpoint {
  readonly file: string;
  readonly #turns = new SerialQueue();
  #content: CheckpointContent;
  /** Text of the file when last read or written; undefined where there was no file. */
  #text: string | undefined;

  private constructor(file: string, content: CheckpointContent, text: string | undefined) {
    this.file = file;
    this.#content = content;
    this.#text = text;
  }

  /**
   * Reads the file, if it exists, and never changes it.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the file is damaged, newer than this infermux, or cannot be read.
   */
  static async open(file: string): Promise<Checkpoint> {
    const path = resolve(file);
    let text: string | undefined;
    try {
      text = await readText(path);
    } catch (cause) {
      throw checkpointRefused(path, `could not be read: ${messageOf(cause)}`, cause);
    }
    return new Checkpoint(path, text === undefined ? {} : parse(path, text), text);
  }

  get content(): CheckpointContent {
    return this.#content;
  }

  /**
   * Resolves when the file has these parts and keeps its other parts, also after a loss of power. Saves are written in
   * the order of the calls.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the parts cannot be written, or somebody else has written to the
   *   file. The file is unchanged then.
   */
  save(parts: CheckpointContent): Promise<void> {
    return this.#turns.run(async () => {
      const content = { ...this.#content, ...parts };
      await this.#write(content);
      this.#content = content;
    });
  }

  /** Resolves when no write is under way. */
  untilWritten(): Promise<void> {
    return this.#turns.untilDone();
  }

  async #write(content: CheckpointContent): Promise<void> {
    const temporary = `${this.file}.tmp`;
    try {
      // Two engines would silently undo each other's changes.
      if ((await readText(this.file)) !== this.#text) throw new Error('another process has changed it meanwhile');
      const text = `${JSON.stringify({ format: FORMAT, version: VERSION, ...content }, undefined, 2)}\n`;
      await writeDurably(temporary, text);
      await rename(temporary, this.file);
      await syncDirectory(dirname(this.file));
      this.#text = text;
    } catch (cause) {
      await rm(temporary, { force: true }).catch(() => undefined);
      const message = `checkpoint ${show(this.file)} could not be written, and nothing was changed: ${messageOf(cause)}`;
      throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
    }
  }
}

/** Returns the text of the file; undefined where there is no such file. */
async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const handle = await open(path, 'w');
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Makes the new name durable: it is in the directory, which is a file of its own. */
async function syncDirectory(path: string): Promise<void> {
  // Windows cannot open directories.
  const handle = await open(path, 'r').catch(() => undefined);
  try {
    await handle?.sync();
  } catch {
    // Some file systems cannot sync them.
  } finally {
    await handle?.close();
  }
}

function parse(path: string, text: string): CheckpointContent {
  let content: Readonly<Record<string, unknown>>;
  try {
    content = JSON.parse(text);
  } catch (cause) {
    throw checkpointRefused(path, `is damaged: ${messageOf(cause)}`, cause);
  }
  if (isObject(content) !== undefined || content['format'] !== FORMAT)
    throw checkpointRefused(path, 'is not a checkpoint of infermux');
  const { version } = content;
  if (!Number.isSafeInteger(version) || (version as number) < 1) {
    throw checkpointRefused(path, `is damaged: its version is ${show(version)}`);
  }
  if ((version as number) > VERSION) {
    throw checkpointRefused(
      path,
      `has version ${version}, and this infermux reads up to version ${VERSION}: use a newer one`,
    );
  }
  const stranger = Object.keys(content).find((key) => !['format', 'version', ...PARTS].includes(key));
  if (stranger !== undefined) throw checkpointRefused(path, `is damaged: it has an unknown part ${show(stranger)}`);
  const { format: _format, version: _version, ...parts } = content;
  return parts;
}

/** Returns the error for a checkpoint that cannot be used. */
export function checkpointRefused(path: string, reason: string, cause?: unknown): InfermuxError {
  const message = `checkpoint ${show(path)} ${reason}. It is left as it is; move it away to start without it`;
  return new InfermuxError('FAILED_PRECONDITION', message, { cause });
}
