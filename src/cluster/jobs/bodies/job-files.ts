import { realpath } from 'node:fs/promises';
import { resolve, sep } from 'node:path';
import { InfermuxError, show } from '../../../common/errors.js';
import { typeOf } from '../../../open-inference/datatypes.js';
import { type Allocate, bytesOfData, checkBooleans } from '../../../open-inference/raw-tensors.js';
import type { MessageTensor } from '../../../open-inference/rest/tensor-message.js';
import type { NumericType } from '../../../tensors/memory/allocated-tensors.js';
import type { Tensor } from '../../../tensors/tensor.js';
import { openNpy } from './npy-file.js';

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

/** Reads the inputs of jobs that are in files below one directory. */
export class JobFiles {
  readonly #root: string | undefined;

  /** @param root undefined: jobs may name no files. */
  constructor(root: string | undefined) {
    this.#root = root;
  }

  /** @throws InfermuxError `INVALID_ARGUMENT` for a file that is not below the directory, or cannot be read. */
  async read({ name, file, rows }: FileInput, allocate: Allocate): Promise<MessageTensor> {
    const npy = await openNpy(await this.#pathOf(file));
    try {
      const [from, to] = rows ?? [0, npy.shape[0] as number];
      npy.check(from, to);
      const head = { name, datatype: npy.datatype, shape: [to - from, ...npy.shape.slice(1)] };
      // A type of files is never that of strings.
      const tensor = allocate(typeOf(npy.datatype) as NumericType, head.shape);
      // Into the memory from which the model reads it.
      const bytes = bytesOfData(tensor.data);
      await npy.read(from, to, bytes);
      if (npy.datatype === 'BOOL') checkBooleans(`input ${show(name)}`, bytes);
      return { ...head, parameters: {}, tensor: tensor as Tensor, binaryBytes: undefined };
    } finally {
      await npy.close();
    }
  }

  /** A job may come from anybody who can write to the stream: links that lead out are followed before they are judged. */
  async #pathOf(file: string): Promise<string> {
    if (this.#root === undefined) {
      throw new InfermuxError(
        'INVALID_ARGUMENT',
        `the job names the file ${show(file)}: start the worker with --files`,
      );
    }
    const root = await realpath(this.#root);
    const path = await realpath(resolve(root, file)).catch(() => undefined);
    if (path?.startsWith(root + sep)) return path;
    throw new InfermuxError('INVALID_ARGUMENT', `there is no file ${show(file)} in the directory of --files`);
  }
}
