import type { Target } from './target.js';

/**
 * State of a place. `waiting`: not started yet, or failed and to be started again. `stuck`: it runs, but its handler
 * refused the target's configuration. A stopped replica is in no snapshot.
 */
export type PlaceState = 'waiting' | 'starting' | 'running' | 'stuck' | 'draining';

/** One place of a deployment at this moment. */
export interface PlaceSnapshot {
  readonly id: string;
  readonly state: PlaceState;
  readonly revision: number;
  readonly configRevision: number;
  /** Whether its handler is being given another configuration. */
  readonly isReconfiguring: boolean;
  /** Milliseconds until a replica may be started here; 0 or less: at once. */
  readonly startsInMs: number;
  /** Number of models in use that no other replica has. */
  readonly soleModels: number;
  /** Number of ongoing requests. */
  readonly ongoing: number;
  /** Number of models that the replica has. */
  readonly models: number;
}

export type Action =
  /** Makes a new place and starts a replica there. */
  | { readonly kind: 'add' }
  | { readonly kind: 'start'; readonly id: string }
  | { readonly kind: 'stop'; readonly id: string }
  | { readonly kind: 'reconfigure'; readonly id: string };

/**
 * Returns the next step from the snapshot towards the target; undefined when there is no step to take now. Pure: call
 * it again after each step, and whenever something changed.
 *
 * A rolling update starts new replicas beside the old ones, the target's fraction at a time. It stops an old replica
 * when a new one runs, and goes on when the old one is gone. So there are never fewer replicas than the target says,
 * unless some fail.
 */
export function reconcile(target: Target, places: readonly PlaceSnapshot[]): Action | undefined {
  const live = places.filter(({ state }) => state !== 'draining');
  const outdated = live.filter(({ revision }) => revision !== target.revision);
  // An outdated replica that does not run yet would be replaced as soon as it runs.
  const useless = outdated.find(({ state }) => state === 'waiting' || state === 'starting');
  if (useless !== undefined) return { kind: 'stop', id: useless.id };
  const current = live.filter(({ revision }) => revision === target.revision);
  return (
    surplus(target, current, outdated) ??
    missing(target, current, outdated, places) ??
    restart(current) ??
    reconfiguration(target, current)
  );
}

/** Returns how many replicas a rolling update may start before it stops as many. */
export function rollingStep({ replicas, fraction }: Pick<Target, 'replicas' | 'fraction'>): number {
  return Math.max(1, Math.floor(replicas * fraction));
}

function surplus(
  { replicas }: Target,
  current: readonly PlaceSnapshot[],
  outdated: readonly PlaceSnapshot[],
): Action | undefined {
  if (current.length > replicas) return stopOf(current);
  // An old replica stops when enough others work.
  const working = [...current, ...outdated].filter(isWorking).length;
  return outdated.length > 0 && working > replicas ? stopOf(outdated) : undefined;
}

function missing(
  target: Target,
  current: readonly PlaceSnapshot[],
  outdated: readonly PlaceSnapshot[],
  all: readonly PlaceSnapshot[],
): Action | undefined {
  if (current.length >= target.replicas) return undefined;
  if (outdated.length === 0) return { kind: 'add' };
  // A draining replica still has its models: the machine should not hold all models twice.
  const most = target.replicas + rollingStep(target);
  const draining = all.filter(({ state, revision }) => state === 'draining' && revision !== target.revision);
  return current.length + outdated.length + draining.length < most ? { kind: 'add' } : undefined;
}

function restart(current: readonly PlaceSnapshot[]): Action | undefined {
  const due = current.find(({ state, startsInMs }) => state === 'waiting' && startsInMs <= 0);
  return due && { kind: 'start', id: due.id };
}

/** One handler at a time: a configuration that one refuses, the others would refuse too. */
function reconfiguration({ configRevision }: Target, current: readonly PlaceSnapshot[]): Action | undefined {
  if (current.some(({ state, isReconfiguring }) => state === 'stuck' || isReconfiguring)) return undefined;
  const next = current.find((place) => isWorking(place) && place.configRevision !== configRevision);
  return next && { kind: 'reconfigure', id: next.id };
}

function stopOf(places: readonly PlaceSnapshot[]): Action | undefined {
  const [first] = stopOrder(places);
  return first && { kind: 'stop', id: first.id };
}

const ORDER: Readonly<Record<PlaceState, number>> = { waiting: 0, starting: 1, stuck: 2, running: 3, draining: 4 };

/**
 * Sorts places so that the cheapest to lose comes first: not started, then starting, then running. Among running
 * places, the only copies of models in use count most, then ongoing requests, then the number of models. Of equals the
 * newest comes first.
 */
export function stopOrder<P extends PlaceSnapshot>(places: readonly P[]): P[] {
  return places
    .map((place, index) => ({ place, index }))
    .sort(
      (left, right) =>
        ORDER[left.place.state] - ORDER[right.place.state] ||
        left.place.soleModels - right.place.soleModels ||
        left.place.ongoing - right.place.ongoing ||
        left.place.models - right.place.models ||
        right.index - left.index,
    )
    .map(({ place }) => place);
}

function isWorking({ state }: PlaceSnapshot): boolean {
  return state === 'running' || state === 'stuck';
}
