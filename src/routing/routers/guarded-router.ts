import { InfermuxError, messageOf, show } from '../../common/errors.js';
import type { PendingRequestView, ReplicaView, RequestRouter } from '../../contracts/request-router.js';
import { firstWithSlot } from '../placement/first-with-slot.js';
import type { Candidate, RoutableReplica } from '../placement/replicas/candidate.js';
import type { ReplicaIndex } from '../placement/replicas/replica-index.js';
import type { ModelRouter } from './by-model/model-router.js';
import { CandidateView } from './candidate-view.js';

/** What a router did that it should not have. */
export type RouterFault = 'threw' | 'not-ranks' | 'unknown-replica' | 'ranked-none' | 'hook-threw';

const HOOKS = ['onRequestRouted', 'onRequestCompleted', 'onReplicasChanged', 'onReplicaFailed'] as const;

type Hook = (typeof HOOKS)[number];

/** To be told of what a router did that it should not have. */
export type RouterFaultObserver = (fault: RouterFault, error: InfermuxError) => void;

/**
 * Asks a router that may be anybody's, and holds what it says against what there is: whatever it does, requests are placed,
 * by the default router if need be.
 */
export class GuardedRouter<R extends RoutableReplica> {
  readonly #router: RequestRouter;
  /** As they were when the router began: what it makes of them later is its own affair. */
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
      else if (hook !== undefined) throw new Error(`it is no function but ${show(hook)}`);
    } catch (cause) {
      this.#fault('hook-threw', `${name} cannot be read: ${messageOf(cause)}`, cause);
    }
  }

  /** Other replicas run from now on. */
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
   * The replica that the request goes to; undefined when it has to wait.
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
      this.#fault('ranked-none', `it ranked no replica for model ${show(request.model)}, and ${fallback.id} is free`);
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

  /** In a list of its own: a router may well sort it in place. */
  #candidatesFor(modelKey: string, mayLoad: boolean): CandidateView[] {
    const all = [...this.#views.values()];
    return mayLoad ? all : all.filter(({ models }) => models.has(modelKey));
  }

  /** @returns the candidates that it ranked; undefined when it did not do what it should. */
  #rank(candidates: readonly ReplicaView[], request: PendingRequestView): Candidate<R>[][] | undefined {
    let ranks: unknown;
    try {
      ranks = this.#router.chooseReplicas(candidates, request);
      if (!Array.isArray(ranks) || !ranks.every(Array.isArray)) {
        whenRejected(ranks, () => undefined);
        return this.#fault('not-ranks', `chooseReplicas must return a list of lists of replicas, got ${show(ranks)}`);
      }
      const found: Candidate<R>[][] = [];
      for (const rank of ranks) {
        const known: Candidate<R>[] = [];
        for (const replica of rank) {
          const id: unknown = (replica as Partial<ReplicaView> | null | undefined)?.id;
          const candidate = this.#candidates.get(id as string);
          if (candidate === undefined) {
            whenRejected(ranks, () => undefined);
            return this.#fault('unknown-replica', `${show(id)} is no candidate`);
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

/** Nobody waits for a router; where it is asynchronous, also within lists, it must not end the process. */
function whenRejected(value: unknown, rejected: (cause: unknown) => void): void {
  if (Array.isArray(value))
    for (const item of value.flat(1)) whenRejected(Array.isArray(item) ? undefined : item, rejected);
  else if (typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function') {
    (value as PromiseLike<unknown>).then(undefined, rejected);
  }
}
