import type { InferenceEngine } from '../../index.js';
import type { ErrorLine, EventLine } from '../messages.js';

const MOST_EVENTS = 200;
const MOST_ERRORS = 50;
/** Longest text of an event or error that the page shows. */
const MOST_CHARACTERS = 500;

/** Keeps what happened last in an engine: loads, evictions, failures, and why requests failed. */
export class Happenings {
  readonly #now: () => number;
  readonly #ends: readonly (() => void)[];
  readonly #engine: InferenceEngine;
  #events: EventLine[] = [];
  #number = 0;
  /** The error that was last seen is at the end. */
  readonly #errors = new Map<string, ErrorLine>();
  #endErrors: (() => void) | undefined;

  /** @param now milliseconds since the Unix epoch. */
  constructor(engine: InferenceEngine, now: () => number) {
    this.#engine = engine;
    this.#now = now;
    const on = engine.on.bind(engine);
    const model = (id: string, version: number | undefined) => (version === undefined ? id : `${id}@${version}`);
    this.#ends = [
      on('modelLoaded', (fact) =>
        this.#add('load', `${fact.replica} loaded ${model(fact.model, fact.version)} in ${Math.round(fact.loadMs)} ms`),
      ),
      on('modelUnloaded', ({ replica, model: id, version, reason }) => {
        if (reason === 'evicted') this.#add('eviction', `${replica} evicted ${model(id, version)}`);
        else this.#add('unload', `${replica} unloaded ${model(id, version)} (${reason})`);
      }),
      on('modelLoadFailed', (fact) =>
        this.#add('load-failed', `${fact.replica} could not load ${model(fact.model, fact.version)}: ${fact.reason}`),
      ),
      on('modelReleaseFailed', (fact) =>
        this.#add('warning', `${fact.replica} could not release ${fact.model}: ${fact.reason}`),
      ),
      on('replicaState', ({ replica, state }) => this.#add('replica', `${replica} is ${state}`)),
      on('replicaRestarting', (fact) =>
        this.#add('failure', `${fact.replica} failed and is started again: ${fact.reason}`),
      ),
      on('outage', (fact) => this.#add('failure', `no replica of ${fact.deployment} can be started: ${fact.reason}`)),
      on('scaled', (fact) => this.#add('scaling', `${fact.deployment} goes from ${fact.from} to ${fact.to} replicas`)),
      on('goal', ({ deployment, status, reason }) =>
        this.#add('goal', `the change of ${deployment} is ${status}${reason === undefined ? '' : `: ${reason}`}`),
      ),
      on('batchingSwitchedOff', (fact) =>
        this.#add('warning', `${fact.model} is not batched any more: ${fact.reason}`),
      ),
      on('requestBarred', (fact) => this.#add('warning', `a request of ${fact.model} is blocked: ${fact.reason}`)),
      on('routerFailed', (fact) => this.#add('warning', `the router of ${fact.deployment} failed: ${fact.reason}`)),
    ];
  }

  /** The newest last. */
  get events(): readonly EventLine[] {
    return this.#events;
  }

  /** The newest first. */
  get errors(): readonly ErrorLine[] {
    return [...this.#errors.values()].reverse();
  }

  /** Notes why requests fail from now on: only while somebody looks, since very many may fail. */
  noteErrors(isWanted: boolean): void {
    if (isWanted === (this.#endErrors !== undefined)) return;
    this.#endErrors?.();
    this.#errors.clear();
    this.#endErrors = isWanted ? this.#engine.on('requestFailed', (fact) => this.#note(fact)) : undefined;
  }

  close(): void {
    this.noteErrors(false);
    for (const end of this.#ends) end();
  }

  #add(kind: EventLine['kind'], text: string): void {
    this.#number += 1;
    this.#events.push({ number: this.#number, at: this.#now(), kind, text: text.slice(0, MOST_CHARACTERS) });
    if (this.#events.length >= 2 * MOST_EVENTS) this.#events = this.#events.slice(-MOST_EVENTS);
  }

  #note({ code, reason, model }: { code: string; reason: string; model: string | undefined }): void {
    const message = reason.slice(0, MOST_CHARACTERS);
    const key = `${code} ${model} ${message}`;
    const { count } = this.#errors.get(key) ?? { count: 0 };
    this.#errors.delete(key);
    this.#errors.set(key, { code, message, model, count: count + 1, at: this.#now() });
    if (this.#errors.size <= MOST_ERRORS) return;
    for (const oldest of this.#errors.keys()) {
      this.#errors.delete(oldest);
      break;
    }
  }
}
