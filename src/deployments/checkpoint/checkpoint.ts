import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { SerialQueue } from '../../common/serial-queue.js';

/** What is in a checkpoint; each part is read and checked by those whose it is. */
export interface CheckpointContent {
  readonly deployments?: unknown;
  readonly endpoints?: unknown;
  readonly models?: unknown;
  readonly pins?: unknown;
}

const FORMAT = 'infermux checkpoint';
/** Raised when a file of before could not be read as it is. */
const VERSION = 1;
const PARTS: readonly string[] = ['deployments', 'endpoints', 'models', 'pins'] satisfies (keyof CheckpointContent)[];

/** A file with what an engine is to be, so that the next one takes up where it left off. It is whole at every moment. */
export class Checkpoint {
  readonly file: string;
  readonly #turns = new SerialQueue();
  #content: CheckpointContent;
  /** Of the file, as it was read or written last; undefined where there was none. */
  #text: string | undefined;

  private constructor(file: string, content: CheckpointContent, text: string | undefined) {
    this.file = file;
    this.#content = content;
    this.#text = text;
  }

  /**
   * Reads the file, if it is there. It is never changed by that.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when it is damaged, newer than this version of infermux, or cannot be read.
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
   * Resolves when the file has these parts, and those it had beside them, also after a loss of power. What is saved later is
   * written later.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when they cannot be written, or somebody else has written to the file: it is as
   *   it was.
   */
  save(parts: CheckpointContent): Promise<void> {
    return this.#turns.run(async () => {
      const content = { ...this.#content, ...parts };
      await this.#write(content);
      this.#content = content;
    });
  }

  /** Resolves when nothing is being written any more. */
  untilWritten(): Promise<void> {
    return this.#turns.untilDone();
  }

  async #write(content: CheckpointContent): Promise<void> {
    const temporary = `${this.file}.tmp`;
    try {
      // Two engines would undo each other's changes without a word.
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

/** Undefined where there is no such file. */
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

/** The new name is in the directory, which is a file of its own. */
async function syncDirectory(path: string): Promise<void> {
  // Windows opens no directories.
  const handle = await open(path, 'r').catch(() => undefined);
  try {
    await handle?.sync();
  } catch {
    // Nor do all file systems sync them.
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
    throw checkpointRefused(path, 'is no checkpoint of infermux');
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
  if (stranger !== undefined) throw checkpointRefused(path, `is damaged: it has a part ${show(stranger)}`);
  const { format: _format, version: _version, ...parts } = content;
  return parts;
}

/** Why a checkpoint is not taken up. */
export function checkpointRefused(path: string, reason: string, cause?: unknown): InfermuxError {
  const message = `checkpoint ${show(path)} ${reason}. It is left as it is; move it away to start without it`;
  return new InfermuxError('FAILED_PRECONDITION', message, { cause });
}
