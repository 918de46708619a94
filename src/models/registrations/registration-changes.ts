import { InfermuxError, readingInput, show } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import { isSameData } from '../../common/values/realm.js';
import { isFinder, type ModelFinder } from '../finder/finder.js';
import { type Target, targetOf } from '../finder/target.js';
import { nameOf } from '../registered-model.js';
import { type CheckedSource, checkSource, type ModelSources } from '../sources/model-sources.js';

/** Models that are to be registered, by id or `id@version`. */
export type WantedModels = ReadonlyMap<string, CheckedSource | ModelFinder>;

/** What is to be done so that other models are registered. */
export interface RegistrationChange {
  readonly name: string;
  readonly action: 'create' | 'change' | 'delete';
  /** Undefined for a deletion. */
  readonly source: CheckedSource | ModelFinder | undefined;
  /** Id of what is unregistered first: files cannot take the place of a finder, nor a finder that of files. */
  readonly clears: string | undefined;
}

/** What is registered. */
export interface RegisteredSources {
  /** By `id@version`. */
  readonly sources: ReadonlyMap<string, CheckedSource>;
  readonly finders: { readonly ids: readonly string[]; given(id: string): ModelFinder | undefined };
}

/** @throws InfermuxError `INVALID_ARGUMENT`. */
export function readTarget(target: unknown): Target {
  checkModelId(target);
  const named = targetOf(target);
  if (named !== undefined) return named;
  const message = `model id ${show(target)}: expected an id without "@", or id@version with a positive integer`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

/** Copies what is to be registered, but for a finder. @throws InfermuxError `INVALID_ARGUMENT`. */
export function readRegistration(
  target: string,
  source: ModelSources[string] | ModelFinder,
): CheckedSource | ModelFinder {
  readTarget(target);
  if (isFinder(source)) return source;
  const where = `the source of model ${show(target)}`;
  const checked = readingInput(where, () => checkSource(where, source));
  return { ...checked, bytes: checked.bytes?.slice() };
}

/**
 * Returns what is to be registered and unregistered so that these models, and no others, are registered. Bytes are always
 * taken for others than before.
 */
export function registrationChanges(
  wanted: WantedModels,
  { sources, finders }: RegisteredSources,
): RegistrationChange[] {
  const changes: RegistrationChange[] = [];
  const kept = new Set<string>();
  const cleared = new Set<string>();
  const idsOfSources = new Set([...sources.keys()].map((name) => targetOf(name)?.id));
  const idsOfFinders = new Set(finders.ids);
  for (const [target, source] of wanted) {
    const { id, version } = readTarget(target);
    const isFound = isFinder(source);
    const name = isFound ? id : nameOf({ id, version: version ?? source.version ?? 1 });
    kept.add(name);
    if ((isFound ? idsOfSources : idsOfFinders).has(id)) {
      changes.push({ name, action: 'change', source, clears: cleared.has(id) ? undefined : id });
      cleared.add(id);
      continue;
    }
    const before = isFound ? finders.given(id) : sources.get(name);
    if (isFound ? before === source : isSameSource(before as CheckedSource | undefined, source)) continue;
    changes.push({ name, action: before === undefined ? 'create' : 'change', source, clears: undefined });
  }
  for (const name of [...sources.keys(), ...finders.ids]) {
    const isCleared = cleared.has((targetOf(name) as Target).id);
    if (!kept.has(name) && !isCleared) changes.push({ name, action: 'delete', source: undefined, clears: undefined });
  }
  return changes;
}

function isSameSource(before: CheckedSource | undefined, after: CheckedSource): boolean {
  return before?.path !== undefined && isSameData(named(before), named(after));
}

/** What is said of the source. */
function named(source: CheckedSource): object {
  return Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined));
}
