import type { HandlerPayload } from './replica-dispatch.js';

const NONE: readonly AbortController[] = [];

/** A dispatch that a handler has not answered. */
export class OngoingDispatch {
  readonly payloads: readonly HandlerPayload[];
  /** The ticket of the first request; the others have the next ones. */
  readonly firstTicket: number;
  #runs: Map<number, AbortController> | undefined;

  constructor(payloads: readonly HandlerPayload[], firstTicket: number) {
    this.payloads = payloads;
    this.firstTicket = firstTicket;
  }

  /** What it runs in the engine at present, by number. Most dispatches run nothing there. */
  get runs(): Map<number, AbortController> {
    this.#runs ??= new Map();
    return this.#runs;
  }

  get isAwaiting(): boolean {
    return this.#runs !== undefined && this.#runs.size > 0;
  }

  hasRun(run: number): boolean {
    return this.#runs?.has(run) === true;
  }

  /** It is answered: what it runs in the engine is over, too. */
  end(): void {
    for (const controller of this.#runs?.values() ?? NONE) controller.abort();
    this.#runs?.clear();
  }

  payloadOf(ticket: number): HandlerPayload | undefined {
    return this.payloads[ticket - this.firstTicket];
  }
}

/** The dispatches that a handler has not answered. They are few, so that a list is quicker than a map. */
export class OngoingDispatches {
  readonly #dispatches: OngoingDispatch[] = [];
  #lastTicket = 0;

  /** The requests are about to be given to the handler. */
  add(payloads: readonly HandlerPayload[]): OngoingDispatch {
    const dispatch = new OngoingDispatch(payloads, this.#lastTicket + 1);
    this.#lastTicket += payloads.length;
    this.#dispatches.push(dispatch);
    return dispatch;
  }

  delete(dispatch: OngoingDispatch): void {
    this.#dispatches.splice(this.#dispatches.indexOf(dispatch), 1);
    dispatch.end();
  }

  /** The dispatch with this request; undefined when it is over. */
  find(ticket: number): OngoingDispatch | undefined {
    return this.#dispatches.find((dispatch) => dispatch.payloadOf(ticket) !== undefined);
  }

  /** The dispatch that runs this in the engine; undefined when it is over. */
  running(run: number): OngoingDispatch | undefined {
    return this.#dispatches.find((dispatch) => dispatch.hasRun(run));
  }

  /** Those that run something in the engine. */
  get awaiting(): number {
    let count = 0;
    for (const { isAwaiting } of this.#dispatches) if (isAwaiting) count += 1;
    return count;
  }
}
