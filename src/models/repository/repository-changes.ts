import type { InfermuxError } from '../../common/errors.js';
import { type CatalogEntry, defaultOf } from '../model-catalog.js';
import type { FoundModel, RegisteredModel } from '../registered-model.js';
import type { BrokenVersion, RepositoryScan, ScannedModel } from './scanned-model.js';

/** Ids of the models that changed between two scans. */
export function unsettledOf(first: RepositoryScan, second: RepositoryScan): Set<string> {
  const unsettled = new Set<string>();
  for (const [id, model] of second.models) {
    const before = first.models.get(id);
    if (before === undefined || fingerprintOf(before) !== fingerprintOf(model)) unsettled.add(id);
  }
  return unsettled;
}

function fingerprintOf({ served, broken = [], problem }: ScannedModel): string {
  const problems = [problem, ...broken.map((version) => version.problem)];
  return [...problems.map((each) => each?.message), ...served.map(({ fingerprint }) => fingerprint)].join('\n');
}

/** Why not all is served that should be. */
export function problemOf(scanned: ScannedModel | undefined): InfermuxError | undefined {
  return scanned?.problem ?? scanned?.broken?.[0]?.problem;
}

/** Whether the found models are the served ones, or have the problem that is already known. */
export function isAsServed(entry: CatalogEntry, { served, broken = [], problem, standsFor }: ScannedModel): boolean {
  // A look that failed changes nothing of what is known.
  if (problem?.retryable === true) return true;
  if (problem !== undefined) return problem.message === entry.problem?.message;
  if (standsFor !== entry.standsFor) return false;
  if (broken[0]?.problem.message !== entry.problem?.message) return false;
  return (
    entry.served.length === served.length + brokenOf(entry.served, broken).length &&
    served.every((found) => entry.served.some((model) => isSameRevision(model, found)))
  );
}

/** Models of one id in the order of their versions. */
export function inOrder(models: readonly RegisteredModel[]): RegisteredModel[] {
  return [...models].sort((one, other) => one.version - other.version);
}

/** The served models whose version is broken now: they stay. */
export function brokenOf(
  current: readonly RegisteredModel[],
  broken: readonly BrokenVersion[],
): readonly RegisteredModel[] {
  return current.filter((model) => broken.some(({ version }) => version === model.version));
}

export function areSameModels(one: readonly RegisteredModel[], other: readonly RegisteredModel[]): boolean {
  return one.length === other.length && one.every((model, index) => model === other[index]);
}

/** Whether they are the same version with the same files. */
export function isSameRevision(one: FoundModel, other: FoundModel): boolean {
  return one.version === other.version && one.fingerprint === other.fingerprint && one.mark === other.mark;
}

/** The model that the new one replaces: the one of its version, or else the one that the id stood for. */
export function predecessorOf(
  model: RegisteredModel,
  wanted: Standing,
  current: Standing,
): RegisteredModel | undefined {
  const sameVersion = current.served.find(({ version }) => version === model.version);
  return sameVersion ?? (model === defaultOf(wanted) ? defaultOf(current) : undefined);
}

/** Models that are served, and the one of them that the id stands for. */
export type Standing = Pick<CatalogEntry, 'served' | 'standsFor'>;

/** What the id alone stands for, when only these are served of what is wanted; undefined: the last, as always. */
export function standsFor(
  served: readonly RegisteredModel[],
  wanted: Standing,
  current: Standing,
): number | null | undefined {
  if (wanted.standsFor === undefined) return undefined;
  const candidates = [defaultOf(wanted), defaultOf(current)].filter((model) => model !== undefined);
  const found = candidates.map(({ version }) => served.find((model) => model.version === version));
  return found.find((model) => model !== undefined)?.version ?? null;
}
