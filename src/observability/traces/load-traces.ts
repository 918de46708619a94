import { begin, finish, loadChannel } from './channels.js';
import type { LoadTrace } from './operations.js';

/** Tells the channel `infermux:load` of loads, whose beginnings and ends are events of replicas. */
export class LoadTraces {
  /** The loads under way, by replica and key of the model. A replica that ends in a load takes its own along. */
  readonly #underWay = new WeakMap<object, Map<string, LoadTrace>>();

  /** @param traceOf makes the trace, if somebody wants to hear of it. */
  begin(replica: object, modelKey: string, traceOf: () => LoadTrace): void {
    if (!loadChannel.hasSubscribers) return;
    const own = this.#underWay.get(replica) ?? new Map<string, LoadTrace>();
    this.#underWay.set(replica, own.set(modelKey, begin(loadChannel, traceOf())));
  }

  /** Call it for each load that ends. One whose beginning nobody heard of is passed over. */
  finish(replica: object, modelKey: string, end: Pick<LoadTrace, 'loadMs' | 'bytes' | 'error'>): void {
    const own = this.#underWay.get(replica);
    const trace = own?.get(modelKey);
    if (trace === undefined) return;
    own?.delete(modelKey);
    finish(loadChannel, Object.assign(trace, end));
  }
}
