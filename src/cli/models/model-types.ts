import { readFile } from 'node:fs/promises';
import type { Limits } from '../children/model-process.js';
import { examineModels } from './check-models.js';
import { declarationsOf } from './declarations.js';
import type { ModelPlace } from './model-place.js';

/** The declarations of models, and what kept some out of them. */
export interface DeclaredTypes {
  readonly text: string;
  readonly models: number;
  readonly problems: readonly { readonly model: string; readonly problem: string }[];
}

/** Loads each version of each model in a child process, and declares what it takes and gives. */
export async function declareModels(
  place: ModelPlace,
  limits: Limits,
  progress: (done: number, total: number) => void,
): Promise<DeclaredTypes> {
  const { loaded, report } = await examineModels(place, { limits, isIsolated: false }, progress);
  const models = new Set(loaded.map(({ id }) => id)).size;
  return { text: declarationsOf(loaded), models, problems: report.problems };
}

/** Whether the file has this text already. Line ends do not count: a version control system may change them. */
export async function hasText(file: string, text: string): Promise<boolean> {
  try {
    return (await readFile(file, 'utf8')).replaceAll('\r\n', '\n') === text;
  } catch {
    return false;
  }
}
