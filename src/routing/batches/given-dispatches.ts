import { InfermuxError } from '../../common/errors.js';
import type { RoutableReplica } from '../placement/replicas/candidate.js';
import type { PendingDispatch } from './take-dispatch.js';

/** Requests that were sent to a replica together and are not answered yet. */
export interface ReplicaWork {
  /** The model's id; empty for a handler. */
  readonly model: string;
  readonly requests: number;
  /** Whether they run with several threads. */
  readonly wide: boolean;
}

/** The unanswered dispatches of each replica, in order. They tell which requests may have caused a replica's death. */
export class GivenDispatches<R extends Pick<RoutableReplica, 'handles' | 'isFailed'>> {
  readonly #given = new WeakMap<R, PendingDispatch[]>();
  /** Replicas that were told to stop. The requests that they do not finish are not to blame. */
  readonly #stopping = new WeakSet<R>();

  /** The dispatch is about to be given to the replica. */
  add(replica: R, dispatch: PendingDispatch): void {
    const given = this.#given.get(replica);
    if (given === undefined) this.#given.set(replica, [dispatch]);
    else given.push(dispatch);
  }

  /** The replica has answered. */
  delete(replica: R, dispatch: PendingDispatch): void {
    const given = this.#given.get(replica);
    given?.splice(given.indexOf(dispatch), 1);
  }

  /** What the replica works on, the first of it first. */
  workOf(replica: R): readonly ReplicaWork[] {
    return (this.#given.get(replica) ?? []).map(({ groups, requests, wide }) => ({
      model: groups[0]?.requests[0]?.model.id ?? '',
      requests,
      wide: wide !== undefined,
    }));
  }

  /** @param crash why the replica takes no requests any more; undefined when it was told to stop. */
  removed(replica: R, crash: InfermuxError | undefined): void {
    if (crash === undefined) this.#stopping.add(replica);
    else this.#stopping.delete(replica);
  }

  /**
   * The dispatch was rejected. A replica that died had begun only the first of its unanswered dispatches, if no handler
   * works on all of them. The others are not to blame, and lose no attempt.
   *
   * @returns whether the replica died, and worked on nothing else.
   */
  failed(replica: R, dispatch: PendingDispatch, cause: unknown): boolean {
    // A run that took too long for its process is answered with another code.
    const isDead = replica.isFailed || (cause instanceof InfermuxError && cause.code === 'REPLICA_FAILED');
    if (!isDead) {
      this.delete(replica, dispatch);
      return false;
    }
    const given = this.#given.get(replica) ?? [];
    if (this.#hasBegun(replica, dispatch) && !this.#stopping.has(replica))
      return replica.handles === undefined || given.length === 1;
    for (const { requests } of dispatch.groups) for (const pending of requests) pending.attempts -= 1;
    return false;
  }

  /**
   * Whether the load that the replica was in is to blame for its end: a handler's thread that died may have died of
   * another request beside it. One that was given up may be in that load still.
   */
  isLoadToBlame(replica: R, crash: InfermuxError | undefined): boolean {
    const isAlone = replica.handles === undefined || (this.#given.get(replica)?.length ?? 0) < 2;
    return isAlone || crash?.cause === undefined || crash.cause instanceof InfermuxError;
  }

  /** Whether nobody waits for what the replica works on. */
  isUnwanted(replica: R): boolean {
    const given = this.#given.get(replica) ?? [];
    const begun = given.filter((dispatch) => this.#hasBegun(replica, dispatch));
    return begun.length > 0 && begun.every(isUnwanted);
  }

  /** Whether somebody waits for what the replica has and has not begun. */
  isWaitedFor(replica: R): boolean {
    const given = this.#given.get(replica) ?? [];
    return given.some((dispatch) => !this.#hasBegun(replica, dispatch) && !isUnwanted(dispatch));
  }

  #hasBegun(replica: R, dispatch: PendingDispatch): boolean {
    return replica.handles !== undefined || this.#given.get(replica)?.[0] === dispatch;
  }
}

function isUnwanted({ groups }: PendingDispatch): boolean {
  return groups.every(({ requests }) => requests.every(({ position }) => position === undefined));
}
