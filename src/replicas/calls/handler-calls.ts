import type { ModelReference } from '../../contracts/model-reference.js';
import type { HandlerRequest, RequestGroup, RunAnswer, RunMessage } from '../../protocol/messages.js';
import { type ReplicaAnswer, readAnswer } from './replica-answer.js';
import type { CallEnvironment, ReplicaCalls } from './replica-calls.js';
import type { HandlerPayload, ReplicaGroup } from './replica-dispatch.js';

/** Sends a replica's calls to the handler in its thread. */
export class HandlerCalls {
  readonly #environment: Omit<CallEnvironment, 'lost' | 'gone'>;
  readonly #calls: ReplicaCalls;
  #ownStats: Readonly<Record<string, unknown>> | undefined;
  #lastTicket = 0;

  constructor(environment: Omit<CallEnvironment, 'lost' | 'gone'>, calls: ReplicaCalls) {
    this.#environment = environment;
    this.#calls = calls;
  }

  /** The statistics that the handler last reported; undefined if it reports none. */
  get ownStats(): Readonly<Record<string, unknown>> | undefined {
    return this.#ownStats;
  }

  /** Gives the handler the requests of one dispatch. @throws InfermuxError as {@link ReplicaCalls.run}. */
  async run(model: ModelReference, groups: readonly ReplicaGroup[]): Promise<ReplicaAnswer> {
    const { counters, models, definitions } = this.#environment;
    const { key } = model;
    const forgets: (() => void)[] = [];
    const asked = groups.map(({ payloads = [] }): RequestGroup => {
      const values = payloads.map((payload) => this.#withTicket(payload, forgets));
      return { requests: values.length, rows: undefined, inputs: [], outputs: undefined, checked: true, values };
    });
    const definition = definitions.definitionFor(model);
    counters.dispatchGiven(asked.reduce((sum, { requests }) => sum + requests, 0));
    models.named(key);
    const message: RunMessage = { kind: 'run', model: key, definition, groups: asked, spare: undefined, verify: false };
    try {
      return readAnswer(asked, await this.#calls.ask<RunAnswer>(message));
    } finally {
      for (const forget of forgets) forget();
      models.handled(key);
    }
  }

  /** @param forgets gets a function that stops the listening, to call when the request is answered. */
  #withTicket({ value, abandoned }: HandlerPayload, forgets: (() => void)[]): HandlerRequest {
    this.#lastTicket += 1;
    const ticket = this.#lastTicket;
    const cancel = () => void this.#environment.thread.post({ kind: 'cancel', ticket }).catch(() => undefined);
    abandoned.addEventListener('abort', cancel, { once: true });
    forgets.push(() => abandoned.removeEventListener('abort', cancel));
    return { ticket, value };
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` with what the handler threw; `REPLICA_FAILED`. */
  async reconfigure(userConfig: unknown): Promise<void> {
    await this.#calls.ask({ kind: 'reconfigure', userConfig });
  }

  /** @throws InfermuxError with what the handler's check threw; `REPLICA_FAILED`. */
  async checkHealth(): Promise<void> {
    await this.#calls.ask({ kind: 'health' });
  }

  /** @throws InfermuxError with what the handler threw; `REPLICA_FAILED`. */
  async recordRoutingStats(isLate: () => boolean): Promise<void> {
    const stats = await this.#calls.ask<Readonly<Record<string, unknown>>>({ kind: 'routing-stats' });
    if (!isLate()) this.#ownStats = stats;
  }
}
