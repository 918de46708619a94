import { stat } from 'node:fs/promises';
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import { readOnnxFile } from './onnx-file.js';

/** The current files of one model. */
export interface ModelFiles {
  /** Size of the model's file and its external data. */
  readonly bytes: number;
  /** Files beside the model's file that hold some of its weights. */
  readonly externalData: readonly string[];
  /** Changes when one of the files changes. */
  readonly fingerprint: string;
  /** When one of them was last written or replaced: milliseconds as of `Date.now()`. */
  readonly changedAt: number;
}

interface FileState {
  readonly path: string;
  readonly bytes: number;
  readonly stamp: string;
  readonly changedAt: number;
}

/** Finds the files of models. A model file is parsed again only when it has changed. */
export class ModelFileReader {
  /** External data of each model file, with the file's stamp when it was parsed. */
  readonly #externalData = new Map<string, { readonly stamp: string; readonly paths: readonly string[] }>();

  /**
   * @param others further files that the model depends on.
   * @throws Error when one of the files is missing or is not a file.
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

  /** Forgets all model files but these. */
  keepOnly(paths: ReadonlySet<string>): void {
    for (const path of this.#externalData.keys()) if (!paths.has(path)) this.#externalData.delete(path);
  }

  async #externalDataOf({ path, stamp }: FileState): Promise<readonly string[]> {
    const known = this.#externalData.get(path);
    if (known?.stamp === stamp) return known.paths;
    const names = (await readOnnxFile(path))?.externalData ?? [];
    // onnxruntime refuses files outside the model's folder, and the load reports it.
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
  // A copy may keep the mtime of its original, but not its ctime.
  const changedAt = Number(mtimeMs > ctimeMs ? mtimeMs : ctimeMs);
  return { path, bytes: Number(size), stamp: `${size}:${mtimeNs}:${ino}`, changedAt };
}

/** Whether the file is in the folder or in one of its subfolders. */
export function isWithin(folder: string, file: string): boolean {
  const way = relative(folder, file);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
