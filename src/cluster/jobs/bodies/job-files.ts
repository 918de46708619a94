import { realpath, stat } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import { InfermuxError, show } from '../../../common/errors.js';
import { typeOf } from '../../../open-inference/datatypes.js';
import { type Allocate, bytesOfData, checkBooleans } from '../../../open-inference/raw-tensors.js';
import type { MessageTensor } from '../../../open-inference/rest/tensor-message.js';
import type { NumericType } from '../../../tensors/memory/allocated-tensors.js';
import type { Tensor } from '../../../tensors/tensor.js';
import { ByteBudget } from './byte-budget.js';
import type { NpyArray } from './npy-file.js';
import { OpenArrays, type UsedArray } from './open-arrays.js';

/** An input of a job that is in a file: `{ name, parameters: { file, rows? } }`. */
export interface FileInput {
  readonly name: string;
  /** Of a `.npy` file, from the directory of files. */
  readonly file: string;
  /** The first row, and the one after the last; undefined: all. */
  readonly rows: readonly [number, number] | undefined;
}

/** Returns the inputs that are in files; undefined when there are none. @throws InfermuxError `INVALID_ARGUMENT`. */
export function fileInputs(inputs: unknown): { readonly files: FileInput[]; readonly others: unknown[] } | undefined {
  if (!Array.isArray(inputs)) return undefined;
  const files: FileInput[] = [];
  const others: unknown[] = [];
  for (const [index, input] of inputs.entries()) {
    const { name, parameters } = (input ?? {}) as { name?: unknown; parameters?: { file?: unknown; rows?: unknown } };
    if (parameters?.file === undefined) {
      others.push(input);
      continue;
    }
    const { file, rows } = parameters;
    const areRows =
      rows === undefined || (Array.isArray(rows) && rows.length === 2 && rows.every(Number.isSafeInteger));
    if (typeof name !== 'string' || typeof file !== 'string' || !areRows) {
      const message = `inputs[${index}] must be { name, parameters: { file, rows: [from, to] } }, got ${show(input)}`;
      throw new InfermuxError('INVALID_ARGUMENT', message);
    }
    files.push({ name, file, rows: rows as [number, number] | undefined });
  }
  return files.length === 0 ? undefined : { files, others };
}

/** What the inputs in files of one job take, until it has ended. */
export interface ReadFiles {
  readonly tensors: readonly MessageTensor[];
  /** Lets other jobs read. */
  release(): void;
}

/** Bytes from files that are in memory at a time. */
const MOST_BYTES = 256 * 2 ** 20;

/** Reads the inputs of jobs that are in files below one directory. */
export class JobFiles {
  readonly #root: string | undefined;
  readonly #memory = new ByteBudget(MOST_BYTES);
  readonly #arrays: OpenArrays;

  private constructor(root: string | undefined) {
    this.#root = root;
    this.#arrays = new OpenArrays((path) => fileBelow(root ?? '/', path));
  }

  /**
   * @param root undefined: jobs may name no files.
   * @throws InfermuxError `INVALID_ARGUMENT` by rejection for what is no directory.
   */
  static async open(root: string | undefined): Promise<JobFiles> {
    if (root !== undefined && (await stat(root).catch(() => undefined))?.isDirectory() !== true) {
      throw new InfermuxError('INVALID_ARGUMENT', `--files must name a directory, got ${show(root)}`);
    }
    return new JobFiles(root);
  }

  /**
   * Reads all inputs in files of a job, when there is room in memory for them.
   *
   * @throws InfermuxError by rejection: `INVALID_ARGUMENT` for rows or a file that no worker could read; `FAILED_PRECONDITION` for a
   *   file that is not there, where another worker may have it.
   */
  async read(inputs: readonly FileInput[], allocate: Allocate): Promise<ReadFiles> {
    const used: UsedArray[] = [];
    let release: (() => void) | undefined;
    try {
      const parts: Part[] = [];
      for (const { name, file, rows } of inputs) {
        const one = await this.#open(file);
        used.push(one);
        const npy = one.array;
        const [from, to] = rows ?? [0, npy.shape[0] as number];
        npy.check(from, to);
        parts.push({ name, npy, from, to });
      }
      const bytes = parts.reduce((sum, { npy, from, to }) => sum + npy.rowBytes * (to - from), 0);
      release = await this.#memory.take(bytes);
      return { tensors: await Promise.all(parts.map((part) => readPart(part, allocate))), release };
    } catch (cause) {
      release?.();
      throw cause;
    } finally {
      for (const one of used) one.release();
    }
  }

  #open(file: string): Promise<UsedArray> {
    if (this.#root !== undefined) return this.#arrays.use(resolve(this.#root, file));
    const message = `the job names the file ${show(file)}: start the worker with --files`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
}

/**
 * Returns where a file is. A job may come from anybody who can write to the stream: links that lead out are followed before they are
 * judged.
 */
async function fileBelow(root: string, path: string): Promise<string> {
  const isBelow = path.startsWith(resolve(root) + sep);
  const found = isBelow ? await realpath(path).catch(() => undefined) : '';
  if (found === undefined) {
    const message = `there is no file ${show(path)} in the directory of --files of this worker`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
  if (found.startsWith((await realpath(root)) + sep) && (await stat(found)).isFile()) return found;
  throw new InfermuxError('INVALID_ARGUMENT', `${show(path)} is no file in the directory of --files`);
}

/** Rows of an array, for an input. */
interface Part {
  readonly name: string;
  readonly npy: NpyArray;
  readonly from: number;
  readonly to: number;
}

async function readPart({ name, npy, from, to }: Part, allocate: Allocate): Promise<MessageTensor> {
  const head = { name, datatype: npy.datatype, shape: [to - from, ...npy.shape.slice(1)] };
  // A type of files is never that of strings.
  const tensor = allocate(typeOf(npy.datatype) as NumericType, head.shape);
  // Into the memory from which the model reads it.
  const bytes = bytesOfData(tensor.data);
  await npy.read(from, to, bytes);
  if (npy.datatype === 'BOOL') checkBooleans(`input ${show(name)}`, bytes);
  return { ...head, parameters: {}, tensor: tensor as Tensor, binaryBytes: undefined };
}
