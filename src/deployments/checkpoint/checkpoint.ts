import type { Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { keepsModes, thisUser } from '../../common/files/other-writers.js';
import { MOST_TEXT_BYTES, readTextFile, tooLong } from '../../common/files/read-file.js';
import { removeAbandoned, replaceFile } from '../../common/files/write-file.js';
import { SerialQueue } from '../../common/tasks/serial-queue.js';
import { doubtCheckpoint } from './checkpoint-trust.js';

/** Content of a checkpoint; the owner of each part reads and checks it. */
export interface CheckpointContent {
  readonly deployments?: unknown;
  readonly endpoints?: unknown;
  readonly models?: unknown;
  readonly pins?: unknown;
  readonly registered?: unknown;
}

const FORMAT = 'infermux checkpoint';
/** Raised when older files cannot be read as they are. */
const VERSION = 1;
/** It says what code is run, so nobody else may write it, and it may hold secrets of handlers. */
const MODE = 0o600;
const PARTS: readonly string[] = [
  'deployments',
  'endpoints',
  'models',
  'pins',
  'registered',
] satisfies (keyof CheckpointContent)[];

/** A file with the desired state of an engine, from which the next engine starts. It is complete at every moment. */
export class Checkpoint {
  readonly file: string;
  /** Why somebody else could have written the file or could replace it: a predicate. Undefined when nobody could. */
  readonly doubt: string | undefined;
  readonly #turns = new SerialQueue();
  #content: CheckpointContent;
  /** Text of the file when last read or written; undefined where there was no file. */
  #text: string | undefined;
  #hasTidied = false;

  private constructor(file: string, content: CheckpointContent, text?: string, doubt?: string) {
    this.file = file;
    this.doubt = doubt;
    this.#content = content;
    this.#text = text;
  }

  /**
   * Reads the file, if it exists, and never changes it. A link to it is followed.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when anybody could have written the file, when it is damaged, newer than
   *   this infermux, larger than 64 MiB or not a regular file, or when it cannot be read.
   */
  static async open(file: string): Promise<Checkpoint> {
    const path = resolve(file);
    let found: Awaited<ReturnType<typeof read>>;
    try {
      found = await read(path);
    } catch (cause) {
      throw checkpointRefused(path, `could not be read: ${messageOf(cause)}`, cause);
    }
    if (found === undefined) return new Checkpoint(path, {});
    const { text, stats } = found;
    const doubt = await doubtOf(path, stats);
    return new Checkpoint(path, parse(path, text), text, doubt);
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
    try {
      // Two engines would silently undo each other's changes.
      if ((await read(this.file))?.text !== this.#text) throw new Error('another process has changed it meanwhile');
      const text = `${JSON.stringify({ format: FORMAT, version: VERSION, ...content }, undefined, 2)}\n`;
      const bytes = Buffer.byteLength(text);
      if (bytes > MOST_TEXT_BYTES) throw tooLong('it', bytes, MOST_TEXT_BYTES);
      if (!this.#hasTidied) await removeAbandoned(dirname(this.file));
      this.#hasTidied = true;
      await replaceFile(this.file, text, MODE);
      this.#text = text;
    } catch (cause) {
      const message = `checkpoint ${show(this.file)} could not be written, and nothing was changed: ${messageOf(cause)}`;
      throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
    }
  }
}

/** Reads the file; undefined where there is no such file. */
async function read(path: string): Promise<{ text: string; stats: Stats } | undefined> {
  try {
    return await readTextFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw cause;
  }
}

/** @returns why somebody else could have written the file. @throws InfermuxError when anybody could. */
async function doubtOf(path: string, stats: Stats): Promise<string | undefined> {
  const folder = dirname(path);
  const doubt = doubtCheckpoint(stats, await stat(folder), thisUser());
  if (doubt?.isRefused === true && (await keepsModes(folder))) throw checkpointRefused(path, doubt.reason);
  return doubt?.reason;
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
