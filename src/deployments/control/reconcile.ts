/** What a deployment is to be. */
export interface Target {
  /** How many replicas are to run. */
  readonly replicas: number;
  /** Names the settings that they are to be started with. */
  readonly revision: number;
  /** Names the user's configuration that they are to have, where it can be changed while they run. */
  readonly configRevision: number;
  /** From 0 to 1: how much of it a rolling update replaces at a time; at least one replica. */
  readonly fraction: number;
}

/**
 * `waiting`: not started yet, or failed and to be started again. `stuck`: it runs, and refused the user's configuration as it is to be.
 * Those that stopped are in no snapshot.
 */
export type PlaceState = 'waiting' | 'starting' | 'running' | 'stuck' | 'draining';

/** One place of a deployment, as it is now. */
export interface PlaceSnapshot {
  readonly id: string;
  readonly state: PlaceState;
  readonly revision: number;
  readonly configRevision: number;
  /** Whether it is being told another configuration. */
  readonly isReconfiguring: boolean;
  /** Milliseconds until it may be started; 0 or less: at once. */
  readonly startsInMs: number;
  /** Models in use that no other replica has. */
  readonly soleModels: number;
  /** Requests given to it and not finished. */
  readonly ongoing: number;
  /** Models that it has. */
  readonly models: number;
}

export type Action =
  /** A new place, started at once. */
  | { readonly kind: 'add' }
  | { readonly kind: 'start'; readonly id: string }
  | { readonly kind: 'stop'; readonly id: string }
  | { readonly kind: 'reconfigure'; readonly id: string };

/**
 * The next step from what is to what is to be; undefined when there is none to take now. Pure: to be asked again after each
 * step, and whenever something changed.
 *
 * A rolling update starts new replicas beside the old ones, the fraction of them at a time, stops an old one when a new one
 * runs, and goes on when it is gone: so there are never fewer than the target, unless they fail.
 */
export function reconcile(target: Target, places: readonly PlaceSnapshot[]): Action | undefined {
  const live = places.filter(({ state }) => state !== 'draining');
  const outdated = live.filter(({ revision }) => revision !== target.revision);
  // What does not run yet would be replaced as soon as it does.
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

/** How many replicas a rolling update may start before it stops as many. */
export function rollingStep({ replicas, fraction }: Pick<Target, 'replicas' | 'fraction'>): number {
  return Math.max(1, Math.floor(replicas * fraction));
}

function surplus(
  { replicas }: Target,
  current: readonly PlaceSnapshot[],
  outdated: readonly PlaceSnapshot[],
): Action | undefined {
  if (current.length > replicas) return stopOf(current);
  // An old one goes when there are enough that work without it.
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
  // One that drains still has its models: the machine is not to bear all of them twice.
  const most = target.replicas + rollingStep(target);
  const draining = all.filter(({ state, revision }) => state === 'draining' && revision !== target.revision);
  return current.length + outdated.length + draining.length < most ? { kind: 'add' } : undefined;
}

function restart(current: readonly PlaceSnapshot[]): Action | undefined {
  const due = current.find(({ state, startsInMs }) => state === 'waiting' && startsInMs <= 0);
  return due && { kind: 'start', id: due.id };
}

/** One at a time: what one refuses the others would refuse too. */
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
 * Those first whose loss costs least: what is not started, what is starting, then what runs, where the last copy of a model
 * in use weighs more than work, work more than models that others have, and of equals the one that came last goes.
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
