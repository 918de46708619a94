import { isLength, ownList } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import type { PendingRequestView, ReplicaView, RequestRouter } from '../../contracts/request-router.js';
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

/** Called for each fault of a router. */
export type RouterFaultObserver = (fault: RouterFault, error: InfermuxError) => void;

/**
 * Asks a router that a user may have written, and checks its answer against the replicas. Whatever the router does,
 * requests are placed: the default router decides for it after a fault.
 */
export class GuardedRouter<R extends RoutableReplica> {
  readonly #router: RequestRouter;
  /** The hooks as they were when the router began; later changes have no effect. */
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
  }

  #readHook(name: Hook): void {
    try {
      const hook: unknown = this.#router[name];
      if (typeof hook === 'function') this.#hooks.set(name, hook.bind(this.#router));
      else if (hook !== undefined) throw new Error(`it must be a function, got ${show(hook)}`);
    } catch (cause) {
      this.#fault('hook-threw', `${name} cannot be read: ${messageOf(cause)}`, cause);
    }
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
   * @param mayLoad whether the model may be loaded at present; otherwise only replicas that have it are candidates.
   */
  choose(
    index: ReplicaIndex<Candidate<R>>,
    request: PendingRequestView,
    mayLoad: boolean,
    hasSlot: (candidate: Candidate<R>) => boolean,
  ): Candidate<R> | undefined {
    const candidates = this.#candidatesFor(request.modelKey, mayLoad);
    if (candidates.length === 0) return undefined;
    const ranks = this.#rank(candidates, request);
    const chosen = ranks && firstWithSlot(ranks, hasSlot);
    if (chosen !== undefined || ranks?.some((rank) => rank.length > 0)) return chosen;
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

  completed(candidate: Candidate<R>, request: PendingRequestView): void {
    this.#call('onRequestCompleted', this.#viewOf(candidate), request);
  }

  failed(candidate: Candidate<R>, error: Error): void {
    this.#call('onReplicaFailed', this.#viewOf(candidate), error);
  }

  #viewOf(candidate: Candidate<R>): CandidateView {
    return this.#views.get(candidate) ?? new CandidateView(candidate);
  }

  /** A new list each time, because a router may sort it in place. */
  #candidatesFor(modelKey: string, mayLoad: boolean): CandidateView[] {
    const all = [...this.#views.values()];
    return mayLoad ? all : all.filter(({ models }) => models.has(modelKey));
  }

  /** @returns the candidates that the router ranked; undefined after a fault. */
  #rank(candidates: readonly ReplicaView[], request: PendingRequestView): Candidate<R>[][] | undefined {
    let ranks: unknown;
    try {
      ranks = this.#router.chooseReplicas(candidates, request);
      const lists = listIn(ranks)?.map(listIn);
      if (lists === undefined || lists.includes(undefined)) {
        whenRejected(ranks, () => undefined);
        return this.#fault('not-ranks', `chooseReplicas must return a list of lists of replicas, got ${show(ranks)}`);
      }
      const found: Candidate<R>[][] = [];
      for (const rank of lists) {
        const known: Candidate<R>[] = [];
        for (const replica of rank ?? []) {
          const id: unknown = (replica as Partial<ReplicaView> | null | undefined)?.id;
          const candidate = this.#candidates.get(id as string);
          if (candidate === undefined) {
            whenRejected(ranks, () => undefined);
            return this.#fault('unknown-replica', `${show(id)} is not one of the candidates`);
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
  } else if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function') {
    (value as PromiseLike<unknown>).then(undefined, rejected);
  }
}
