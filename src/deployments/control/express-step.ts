import type { PlaceSnapshot } from './reconcile.js';
import type { Target } from './target.js';

/** What an express replica is decided by. */
export interface ExpressDemand {
  /** Whether short runs wait behind long ones. */
  readonly isNeeded: boolean;
  /** False if the option `express` is false. */
  readonly isAllowed: boolean;
  /** The target of the replicas that it stands beside. */
  readonly target: Pick<Target, 'replicas' | 'revision'>;
  /** Number of these replicas that run. */
  readonly running: number;
}

/** The place of the express replica at this moment. */
export type ExpressPlace = Pick<PlaceSnapshot, 'state' | 'revision' | 'startsInMs'>;

export type ExpressStep =
  /** Starts the replica, in a new place if there is none. */
  | { readonly kind: 'start' }
  | {
      readonly kind: 'stop';
      readonly reason: 'not needed' | 'switched off' | 'no replicas' | 'other settings' | 'no replica runs';
    };

/**
 * Returns the next step for the express replica; undefined when there is no step to take now. Pure, as `reconcile`.
 *
 * The replica begins only beside another one that runs. It cannot replace that one, and while none runs the deployment
 * is out and takes no requests.
 *
 * @param place undefined when there is none.
 */
export function expressStep(demand: ExpressDemand, place: ExpressPlace | undefined): ExpressStep | undefined {
  const { target, running } = demand;
  // The next one has the same id.
  if (place?.state === 'draining') return undefined;
  const reason = whyNone(demand);
  if (reason !== undefined) return place && { kind: 'stop', reason };
  if (place !== undefined && place.revision !== target.revision) return { kind: 'stop', reason: 'other settings' };
  if (running === 0) return place?.state === 'starting' ? { kind: 'stop', reason: 'no replica runs' } : undefined;
  const isDue = place === undefined || (place.state === 'waiting' && place.startsInMs <= 0);
  return isDue ? { kind: 'start' } : undefined;
}

function whyNone({
  isNeeded,
  isAllowed,
  target,
}: ExpressDemand): 'not needed' | 'switched off' | 'no replicas' | undefined {
  if (!isAllowed) return 'switched off';
  if (target.replicas === 0) return 'no replicas';
  return isNeeded ? undefined : 'not needed';
}
