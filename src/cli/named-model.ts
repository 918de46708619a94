import { basename, extname } from 'node:path';
import { type ModelSource, readModelSource } from '../index.js';

/** The model that a command names by its file. */
export interface NamedModel {
  /** For messages: the name of its file. */
  readonly id: string;
  readonly source: ModelSource;
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a bad `model.json` beside it. */
export async function nameModel(path: string): Promise<NamedModel> {
  const name = basename(path, extname(path));
  // "@" separates id and version.
  return { id: name.replaceAll('@', '-') || 'model', source: await readModelSource(path) };
}
