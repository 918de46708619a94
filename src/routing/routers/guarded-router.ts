import { isLength, ownList } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import type { PendingRequestView, ReplicaView, RequestOutcome, RequestRouter } from '../../contracts/request-router.js';
import { firstWithSlot } from '../placement/first-with-slot.js';
import type { Candidate, RoutableReplica } from '../placement/replicas/candidate.js';
import type { ReplicaIndex } from '../placement/replicas/replica-index.js';
import type { ModelRouter } from './by-model/model-router.js';
import { CandidateView } from './candidate-view.js';

/** What a router did wrong. */
export type RouterFault = 'threw' | 'not-ranks' | 'unknown-replica' | 'ranked-none' | 'hook-threw';

/** Most ranks, and most replicas in one: more than a deployment has. */
const MOST_RANKED = 4_096;

const HOOKS = ['onRequestRouted', 'onRequestCompleted', 'onReplicasChanged', 'onReplicaFailed'] as const;

type Hook = (typeof HOOKS)[number];

const SPILLS: readonly unknown[] = [undefined, 'engine', 'router'];

/** What a router that returns a promise is told. */
const AT_ONCE =
  'it is asked for each request and must answer at once: look up in a hook or a timer, and rank from what is known';

/** Called for each fault of a router. */
export type RouterFaultObserver = (fault: RouterFault, error: InfermuxError) => void;

/**
 * Asks a router that a user may have written, and checks its answer against the replicas. Whatever the router does,
 * requests are placed: the default router decides for it after a fault.
 */
export class GuardedRouter<R extends RoutableReplica> {
  readonly #router: RequestRouter;
  /** The hooks as they were when the router began; later changes have no effect. */
  readonly #spill: unknown;
  readonly #hooks = new Map<Hook, (...given: unknown[]) => unknown>();
  readonly #fallback: ModelRouter;
  readonly #faulted: RouterFaultObserver;
  readonly #views = new Map<Candidate<R>, CandidateView>();
  readonly #candidates = new Map<string, Candidate<R>>();

  constructor(router: RequestRouter, fallback: ModelRouter, faulted: RouterFaultObserver) {
    this.#router = router;
    this.#fallback = fallback;
    this.#faulted = faulted;
    for (const name of HOOKS) this.#readHook(name);
    this.#spill = this.#read('spill');
    if (!SPILLS.includes(this.#spill))
      this.#fault('hook-threw', `spill must be 'engine' or 'router', got ${show(this.#spill)}`);
  }

  /** Whether the router itself decides when a model that replicas have is worth another load. */
  get decidesSpill(): boolean {
    return this.#spill === 'router';
  }

  #read(name: Hook | 'spill'): unknown {
    try {
      return this.#router[name];
    } catch (cause) {
      return this.#fault('hook-threw', `${name} cannot be read: ${messageOf(cause)}`, cause);
    }
  }

  #readHook(name: Hook): void {
    const hook = this.#read(name);
    if (typeof hook === 'function') this.#hooks.set(name, hook.bind(this.#router));
    else if (hook !== undefined) this.#fault('hook-threw', `${name} must be a function, got ${show(hook)}`);
  }

  /** Call it when other replicas run than before. */
  changed(candidates: Iterable<Candidate<R>>): void {
    const before = new Map(this.#views);
    this.#views.clear();
    this.#candidates.clear();
    for (const candidate of candidates) {
      this.#views.set(candidate, before.get(candidate) ?? new CandidateView(candidate));
      this.#candidates.set(candidate.id, candidate);
    }
    this.#call('onReplicasChanged', [...this.#views.values()]);
  }

  /**
   * Returns the replica that the request goes to; undefined when the request has to wait.
   *
   * @param isOffered which replicas are candidates. While there are others, the router may rank none, to wait for one.
   */
  choose(
    index: ReplicaIndex<Candidate<R>>,
    request: PendingRequestView,
    isOffered: (candidate: Candidate<R>) => boolean,
    hasSlot: (candidate: Candidate<R>) => boolean,
  ): Candidate<R> | undefined {
    // A new list each time, because a router may sort it in place.
    const candidates: CandidateView[] = [];
    for (const [candidate, view] of this.#views) if (isOffered(candidate)) candidates.push(view);
    if (candidates.length === 0) return undefined;
    const areAll = candidates.length === this.#views.size;
    const ranks = this.#rank(candidates, request);
    const chosen = ranks && firstWithSlot(ranks, hasSlot);
    if (chosen !== undefined || ranks?.some((rank) => rank.length > 0) || (ranks !== undefined && !areAll))
      return chosen;
    const fallback = firstWithSlot(
      this.#fallback.chooseReplicas(index, request) as readonly Iterable<Candidate<R>>[],
      hasSlot,
    );
    if (ranks !== undefined && fallback !== undefined) {
      this.#fault(
        'ranked-none',
        `it ranked no replica for model ${show(request.model)}, although ${fallback.id} is free`,
      );
    }
    return fallback;
  }

  get followsRequests(): boolean {
    return this.#hooks.has('onRequestRouted') || this.#hooks.has('onRequestCompleted');
  }

  routed(candidate: Candidate<R>, request: PendingRequestView): void {
    this.#call('onRequestRouted', this.#viewOf(candidate), request);
  }

  completed(candidate: Candidate<R>, request: PendingRequestView, outcome: RequestOutcome): void {
    this.#call('onRequestCompleted', this.#viewOf(candidate), request, outcome);
  }

  failed(candidate: Candidate<R>, error: Error): void {
    this.#call('onReplicaFailed', this.#viewOf(candidate), error);
  }

  #viewOf(candidate: Candidate<R>): CandidateView {
    return this.#views.get(candidate) ?? new CandidateView(candidate);
  }

  /** @returns the candidates that the router ranked; undefined after a fault. */
  #rank(candidates: readonly ReplicaView[], request: PendingRequestView): Candidate<R>[][] | undefined {
    let ranks: unknown;
    try {
      ranks = this.#router.chooseReplicas(candidates, request);
      const lists = listIn(ranks)?.map(listIn);
      if (lists === undefined || lists.includes(undefined)) {
        whenRejected(ranks, () => undefined);
        const hint = isPromise(ranks) ? `; ${AT_ONCE}` : '';
        return this.#fault(
          'not-ranks',
          `chooseReplicas must return a list of lists of replicas, got ${show(ranks)}${hint}`,
        );
      }
      const found: Candidate<R>[][] = [];
      for (const rank of lists) {
        const known: Candidate<R>[] = [];
        for (const replica of rank ?? []) {
          const id: unknown = (replica as Partial<ReplicaView> | null | undefined)?.id;
          const candidate = this.#candidates.get(id as string);
          if (candidate === undefined) {
            whenRejected(ranks, () => undefined);
            const hint = isPromise(replica) ? `, but a promise; ${AT_ONCE}` : '';
            return this.#fault('unknown-replica', `${show(id)} is not one of the candidates${hint}`);
          }
          known.push(candidate);
        }
        found.push(known);
      }
      return found;
    } catch (cause) {
      return this.#fault('threw', `chooseReplicas threw: ${messageOf(cause)}`, cause);
    }
  }

  #call(name: Hook, ...given: unknown[]): void {
    const threw = (cause: unknown) => void this.#fault('hook-threw', `${name} threw: ${messageOf(cause)}`, cause);
    try {
      whenRejected(this.#hooks.get(name)?.(...given), threw);
    } catch (cause) {
      threw(cause);
    }
  }

  #fault(fault: RouterFault, message: string, cause?: unknown): undefined {
    this.#faulted(fault, new InfermuxError('INVALID_ARGUMENT', `the router failed: ${message}`, { cause }));
    return undefined;
  }
}

/** Returns a copy of a list that a router made; undefined for all else, and for a list that is too long to be one of ranks. */
function listIn(value: unknown): readonly unknown[] | undefined {
  return Array.isArray(value) && isLength(value.length, MOST_RANKED) ? ownList('ranks', value, MOST_RANKED) : undefined;
}

/** Handles rejections of an asynchronous router, also within lists: unhandled, they would end the process. */
function whenRejected(value: unknown, rejected: (cause: unknown) => void): void {
  const lists = listIn(value)?.map((item) => listIn(item) ?? [item]);
  if (lists !== undefined) {
    for (const item of lists.flat(1)) if (!Array.isArray(item)) whenRejected(item, rejected);
  } else if (isPromise(value)) value.then(undefined, rejected);
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}
