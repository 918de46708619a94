import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { EngineOptions, ModelFinder } from '../../index.js';
import { messageOf } from '../terminal/printable.js';

/** Where a command looks for models. */
export type ModelPlace =
  | { readonly directory: string }
  /** A module with a finder, and the ids of the models; all that the finder lists if there are none. */
  | { readonly finder: string; readonly ids: readonly string[] };

/** The options of an engine that has these models. @throws Error when the module has no finder. */
export async function optionsOf(place: ModelPlace): Promise<Pick<EngineOptions, 'models'>> {
  return { models: 'directory' in place ? place.directory : await importFinder(place.finder) };
}

/** Ids of the models to look at with a finder. @throws Error when none is named, and the finder lists none. */
export async function idsOf({ finder, ids }: { finder: string; ids: readonly string[] }): Promise<string[]> {
  if (ids.length > 0) return [...ids];
  const { list } = await importFinder(finder);
  if (list === undefined) throw new Error(`the finder ${finder} lists no models: name their ids`);
  const listed: string[] = [];
  for await (const id of await list()) listed.push(id);
  return listed;
}

/** The finder that a module exports as its default, or by the name `finder`. */
async function importFinder(path: string): Promise<ModelFinder> {
  let module: { readonly default?: unknown; readonly finder?: unknown };
  try {
    module = await import(pathToFileURL(resolve(path)).href);
  } catch (cause) {
    throw new Error(`the finder ${path} could not be imported: ${messageOf(cause)}`, { cause });
  }
  const found = [module.default, module.finder].find(
    (each) => typeof (each as Partial<ModelFinder> | undefined)?.find === 'function',
  );
  if (found === undefined) throw new Error(`${path} must export a finder, as its default or by the name finder`);
  return found as ModelFinder;
}
