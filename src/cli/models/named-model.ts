import { basename, extname } from 'node:path';
import { type ModelSource, readModelSource } from '../../index.js';

/** A model that a command names by its file. */
export interface NamedModel {
  /** Name of the model's file, for messages. */
  readonly id: string;
  readonly source: ModelSource;
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a bad `model.json` beside the file. */
export async function nameModel(path: string): Promise<NamedModel> {
  const name = basename(path, extname(path));
  // "@" separates id and version.
  return { id: name.replaceAll('@', '-') || 'model', source: await readModelSource(path) };
}
