import { stat } from 'node:fs/promises';
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import { readOnnxFile } from './onnx-file.js';

/** The files of one model as they are now. */
export interface ModelFiles {
  /** Of all of them. */
  readonly bytes: number;
  /** Files beside the model's that hold some of its weights. */
  readonly externalData: readonly string[];
  /** Another one when a file has changed. */
  readonly fingerprint: string;
  /** When the youngest of them was last written to or replaced: milliseconds as of `Date.now()`. */
  readonly changedAt: number;
}

interface FileState {
  readonly path: string;
  readonly bytes: number;
  readonly stamp: string;
  readonly changedAt: number;
}

/** Reads what files models have, and looks into those again that have changed. */
export class ModelFileReader {
  /** External data of each model file, and the stamp it was read at. */
  readonly #externalData = new Map<string, { readonly stamp: string; readonly paths: readonly string[] }>();

  /**
   * @param others files beside the model's that are about it.
   * @throws Error when one of them is not there or is no file.
   */
  async read(path: string, others: readonly string[] = []): Promise<ModelFiles> {
    const model = await stateOf(path);
    const externalData = await this.#externalDataOf(model);
    const [external, beside] = await Promise.all([
      Promise.all(externalData.map(stateOf)),
      Promise.all(others.map(stateOf)),
    ]);
    const all = [model, ...external, ...beside];
    return {
      bytes: [model, ...external].reduce((sum, { bytes }) => sum + bytes, 0),
      externalData,
      fingerprint: all.map(({ path: name, stamp }) => `${name}:${stamp}`).join('\n'),
      changedAt: Math.max(...all.map(({ changedAt }) => changedAt)),
    };
  }

  /** Forgets the files that are not among these. */
  keepOnly(paths: ReadonlySet<string>): void {
    for (const path of this.#externalData.keys()) if (!paths.has(path)) this.#externalData.delete(path);
  }

  async #externalDataOf({ path, stamp }: FileState): Promise<readonly string[]> {
    const known = this.#externalData.get(path);
    if (known?.stamp === stamp) return known.paths;
    const names = (await readOnnxFile(path))?.externalData ?? [];
    // onnxruntime refuses what lies outside the model's folder; then the load says so.
    const folder = dirname(path);
    const paths = names.map((name) => resolve(folder, name)).filter((file) => isWithin(folder, file));
    this.#externalData.set(path, { stamp, paths });
    return paths;
  }
}

async function stateOf(path: string): Promise<FileState> {
  const found = await stat(path, { bigint: true });
  if (!found.isFile()) throw new Error(`${path} is not a file; expected an ONNX or ORT file`);
  const { size, mtimeNs, ino, mtimeMs, ctimeMs } = found;
  // A copy may keep the time of writing of its original, but not that of its own last change.
  const changedAt = Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
  return { path, bytes: Number(size), stamp: `${size}:${mtimeNs}:${ino}`, changedAt };
}

/** Whether the file is in the folder, or in one within it. */
export function isWithin(folder: string, file: string): boolean {
  const way = relative(folder, file);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
