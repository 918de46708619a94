import { InfermuxError, readingInput, show } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import { isSameData } from '../../common/values/realm.js';
import { checkFinder, isFinder, type ModelFinder, type ResolvedFinder } from '../finder/finder.js';
import { type Target, targetOf } from '../finder/target.js';
import { nameOf } from '../registered-model.js';
import { type CheckedSource, checkSource, type ModelSources } from '../sources/model-sources.js';

/** A model that is to be registered: from a source with its version, or by a finder. */
export type WantedModel = Readonly<
  {
    /** As its caller names it. */
    target: string;
    id: string;
    /** `id@version`, or the id for one with a finder of its own. */
    name: string;
  } & ({ source: CheckedSource; finder: undefined } | { source: ModelFinder; finder: ResolvedFinder })
>;

/** Models that are to be registered, by their names. */
export type WantedModels = ReadonlyMap<string, WantedModel>;

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
export function readRegistration(target: unknown, given: unknown): WantedModel {
  const { id, version } = readTarget(target);
  const named = { target: target as string, id };
  if (isFinder(given)) {
    const finder = checkFinder(`the finder of model ${show(id)}`, given);
    if (version === undefined) return { ...named, name: id, source: given, finder };
    const message = `a finder is registered for all versions of ${show(id)}: leave out the version`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const where = `the source of model ${show(target)}`;
  const checked = readingInput(where, () => checkSource(where, given as ModelSources[string]));
  if (version !== undefined && checked.version !== undefined && checked.version !== version) {
    const message = `${where} has version ${checked.version}, and ${show(target)} names another: name one`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const source = {
    ...checked,
    bytes: checked.bytes && new Uint8Array(checked.bytes),
    version: version ?? checked.version ?? 1,
  };
  return { ...named, name: nameOf({ id, version: source.version }), source, finder: undefined };
}

/** Reads models that are to be registered together. @throws InfermuxError `INVALID_ARGUMENT`. */
export function readRegistrations(given: Readonly<Record<string, unknown>>): WantedModels {
  const wanted = new Map<string, WantedModel>();
  for (const [target, source] of Object.entries(given)) {
    const model = readRegistration(target, source);
    const other = wanted.get(model.name);
    if (other !== undefined) throw twice(other, model);
    wanted.set(model.name, model);
  }
  // Of a finder's model there can be no version besides.
  for (const model of wanted.values()) {
    const other = wanted.get(model.id);
    if (other !== undefined && other !== model) throw twice(other, model);
  }
  return wanted;
}

function twice({ target }: WantedModel, other: WantedModel): InfermuxError {
  const message = `models: ${show(target)} and ${show(other.target)} name the same model: leave one out`;
  return new InfermuxError('INVALID_ARGUMENT', message);
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
  const cleared = new Set<string>();
  const idsOfSources = new Set([...sources.keys()].map((name) => targetOf(name)?.id));
  const idsOfFinders = new Set(finders.ids);
  for (const { id, name, source } of wanted.values()) {
    const isFound = isFinder(source);
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
    if (!wanted.has(name) && !isCleared) changes.push({ name, action: 'delete', source: undefined, clears: undefined });
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
