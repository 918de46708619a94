import { type ErrorCode, messageOf } from '../common/errors.js';
import type { UnloadReason } from '../contracts/eviction.js';
import type { Log } from './log.js';

/** The events of `engine.on`, by name. They have the same fields as the log. Times are in milliseconds. */
export interface EngineEvents {
  /** A replica accepts requests (`running`), accepts no more (`draining`), or has ended (`stopped`, `failed`). */
  readonly replicaState: {
    readonly replica: string;
    readonly deployment: string;
    readonly state: 'running' | 'draining' | 'stopped' | 'failed';
  };
  /** A replica has failed, and is started again after the delay. */
  readonly replicaRestarting: {
    readonly replica: string;
    readonly deployment: string;
    readonly reason: string;
    readonly delayMs: number;
  };
  /** No replica of the deployment can be started: its requests are refused. */
  readonly outage: { readonly deployment: string; readonly reason: string };
  /** The target number of replicas has changed. */
  readonly scaled: { readonly deployment: string; readonly from: number; readonly to: number };
  /** A change of a deployment got a goal (`pending`), or its goal ended. */
  readonly goal: {
    readonly id: string;
    readonly deployment: string;
    readonly status: 'pending' | 'reached' | 'superseded' | 'failed';
    readonly reason: string | undefined;
  };
  /**
   * A request was refused or answered with an error. If it was refused before a deployment was chosen, `deployment` is
   * undefined, and `model` is the target of the request.
   */
  readonly requestFailed: {
    readonly model: string | undefined;
    readonly deployment: string | undefined;
    readonly code: ErrorCode;
    readonly reason: string;
  };
  readonly modelLoaded: ModelInReplica & { readonly loadMs: number; readonly bytes: number };
  /** A load has failed. The replica does not try again until `nextTryInMs` milliseconds have passed. */
  readonly modelLoadFailed: ModelInReplica & {
    readonly code: string;
    readonly reason: string;
    readonly nextTryInMs: number;
  };
  /**
   * A session was removed: `evicted` for another one, `unloaded`, `expired`, `replaced`, or because the replica ended.
   */
  readonly modelUnloaded: ModelInReplica & { readonly reason: UnloadReason };
  /** A session was removed but could not be released; its memory may still be in use. */
  readonly modelReleaseFailed: ModelInReplica & { readonly reason: string };
  /** Requests for the model are not batched any more, because a batch gave other results than single runs. */
  readonly batchingSwitchedOff: { readonly model: string; readonly deployment: string; readonly reason: string };
  /**
   * A request is blocked for a while, because it killed replicas or took longer than `runTimeoutMs`. If
   * `isModelBarred`, all requests for the model are blocked.
   */
  readonly requestBarred: {
    readonly model: string;
    readonly deployment: string;
    readonly reason: string;
    readonly isModelBarred: boolean;
    readonly nextTryInMs: number;
  };
  /** The router made this kind of error for the first time. */
  readonly routerFailed: { readonly deployment: string; readonly kind: string; readonly reason: string };
}

/** A session of a model, or of a handler's own model, which has no version. */
interface ModelInReplica {
  readonly model: string;
  readonly version: number | undefined;
  readonly replica: string;
}

export type EngineEventName = keyof EngineEvents;

export const EVENT_NAMES: readonly string[] = [
  ...(['replicaState', 'replicaRestarting', 'outage', 'scaled', 'goal', 'modelLoaded', 'modelLoadFailed'] as const),
  ...([
    'modelUnloaded',
    'modelReleaseFailed',
    'batchingSwitchedOff',
    'requestBarred',
    'routerFailed',
    'requestFailed',
  ] as const),
] satisfies EngineEventName[];

type Listener = (fact: never) => unknown;

/**
 * Tells listeners what happens, in the order in which it happens, after the code that is running: a listener may call
 * anything of the engine. One that fails is told to the log, and goes on hearing.
 */
export class EventHub {
  readonly #listeners = new Map<EngineEventName, Set<{ readonly listener: Listener }>>();
  readonly #defer: (callback: () => void) => void;
  readonly #log: Log;

  /** @param defer calls back after the running code. */
  constructor(defer: (callback: () => void) => void, log: Log) {
    this.#defer = defer;
    this.#log = log;
  }

  /** @returns ends it. */
  on<Name extends EngineEventName>(name: Name, listener: (fact: EngineEvents[Name]) => unknown): () => void {
    const all = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, all);
    const entry = { listener: listener as Listener };
    all.add(entry);
    return () => void all.delete(entry);
  }

  /** @param factOf makes the fact, if somebody listens. */
  emit<Name extends EngineEventName>(name: Name, factOf: () => EngineEvents[Name]): void {
    const all = this.#listeners.get(name);
    if (all === undefined || all.size === 0) return;
    const fact = Object.freeze(factOf());
    for (const entry of all) {
      this.#defer(() => {
        if (all.has(entry)) this.#tell(name, entry.listener, fact);
      });
    }
  }

  #tell(name: EngineEventName, listener: Listener, fact: unknown): void {
    const failed = (cause: unknown) =>
      this.#log.write('warn', { event: name, reason: messageOf(cause) }, 'a listener of engine.on failed');
    try {
      const answer = listener(fact as never) as PromiseLike<unknown> | undefined;
      if (typeof answer?.then === 'function') answer.then(undefined, failed);
    } catch (cause) {
      failed(cause);
    }
  }
}
