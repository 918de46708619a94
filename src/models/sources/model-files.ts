import { dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import type { FileIdentity } from '../../common/files/file-stamp.js';
import { readOnnxFile } from '../../common/files/onnx-file.js';
import { KnownFiles, type SeenFile } from './known-files.js';

/** The current files of one model. */
export interface ModelFiles {
  /** Size of the model's file and its external data. */
  readonly bytes: number;
  /** Files beside the model's file that hold some of its weights. */
  readonly externalData: readonly string[];
  /** The model's file and its external data. */
  readonly files: readonly FileIdentity[];
  /** Changes when the contents of one of the files change. */
  readonly fingerprint: string;
  /** When one of them was last written or replaced: milliseconds as of `Date.now()`. */
  readonly changedAt: number;
}

/** Finds the files of models. A model file is parsed again only when it has changed. */
export class ModelFileReader {
  readonly #known = new KnownFiles();
  /** External data of each model file, with the file's revision when it was parsed. */
  readonly #externalData = new Map<string, { readonly revision: string; readonly paths: readonly string[] }>();

  /**
   * @param others further files that the model depends on.
   * @throws Error when one of the files is missing or is not a file, or when the system cannot answer.
   */
  async read(path: string, others: readonly string[] = []): Promise<ModelFiles> {
    const look = async (file: string) => (await this.#known.look(file)).file;
    const seen = await this.#known.look(path);
    const externalData = await this.#externalDataOf(seen);
    const [external, beside] = await Promise.all([Promise.all(externalData.map(look)), Promise.all(others.map(look))]);
    const own = [seen.file, ...external];
    const all = [...own, ...beside];
    return {
      bytes: own.reduce((sum, { bytes }) => sum + bytes, 0),
      externalData,
      files: own,
      fingerprint: all.map(({ path: name, revision }) => `${name}:${revision}`).join('\n'),
      changedAt: Math.max(...all.map(({ changedAt }) => changedAt)),
    };
  }

  /** Forgets all files but these. */
  keepOnly(paths: ReadonlySet<string>): void {
    this.#known.keepOnly(paths);
    for (const path of this.#externalData.keys()) if (!paths.has(path)) this.#externalData.delete(path);
  }

  async #externalDataOf({ file: { path, revision }, contents }: SeenFile): Promise<readonly string[]> {
    const known = this.#externalData.get(path);
    if (known?.revision === revision) return known.paths;
    const names = (await readOnnxFile(path, contents))?.externalData ?? [];
    // onnxruntime refuses files outside the model's folder, and the load reports it.
    const folder = dirname(path);
    const paths = names.map((name) => resolve(folder, name)).filter((file) => isWithin(folder, file));
    this.#externalData.set(path, { revision, paths });
    return paths;
  }
}

/** Whether the file is in the folder or in one of its subfolders. */
export function isWithin(folder: string, file: string): boolean {
  const way = relative(folder, file);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
