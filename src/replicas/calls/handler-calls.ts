import type { ModelReference } from '../../contracts/model-reference.js';
import type { HandlerRequest, ReplicaMessage, RequestGroup, RunAnswer, RunMessage } from '../../protocol/messages.js';
import { NestedRuns } from './nested-runs.js';
import { OngoingDispatches } from './ongoing-dispatches.js';
import { type ReplicaAnswer, readAnswer } from './replica-answer.js';
import type { CallEnvironment, ReplicaCalls } from './replica-calls.js';
import type { HandlerPayload, ReplicaGroup } from './replica-dispatch.js';

/** Sends a replica's calls to the handler in its thread. */
export class HandlerCalls {
  readonly #environment: Omit<CallEnvironment, 'lost' | 'gone'>;
  readonly #calls: ReplicaCalls;
  readonly #ongoing = new OngoingDispatches();
  /** What its requests run in the engine. */
  readonly nested: NestedRuns;
  #ownStats: Readonly<Record<string, unknown>> | undefined;

  constructor(environment: Omit<CallEnvironment, 'lost' | 'gone'>, calls: ReplicaCalls) {
    this.#environment = environment;
    this.#calls = calls;
    this.nested = new NestedRuns(this.#ongoing, calls);
  }

  /** The statistics that the handler last reported; undefined if it reports none. */
  get ownStats(): Readonly<Record<string, unknown>> | undefined {
    return this.#ownStats;
  }

  /** Gives the handler the requests of one dispatch. @throws InfermuxError as {@link ReplicaCalls.run}. */
  async run(model: ModelReference, groups: readonly ReplicaGroup[]): Promise<ReplicaAnswer> {
    const { counters, models, definitions } = this.#environment;
    const { key } = model;
    const payloads = groups.flatMap((group) => group.payloads ?? []);
    const dispatch = this.#ongoing.add(payloads);
    const values = payloads.map((payload, index) => this.#withTicket(payload, dispatch.firstTicket + index));
    const asked: RequestGroup[] = [
      { requests: values.length, rows: undefined, inputs: [], outputs: undefined, checked: true, values },
    ];
    const definition = definitions.definitionFor(model);
    counters.dispatchGiven(values.length);
    const message: RunMessage = { kind: 'run', model: key, definition, groups: asked, spare: undefined, verify: false };
    try {
      const answer = this.#calls.ask<RunAnswer>(message);
      // Not earlier: it may bring the next request for the model here, whose message must come after this one.
      models.named(key);
      return readAnswer(asked, await answer);
    } finally {
      for (const payload of payloads) payload.abandoned = undefined;
      this.#ongoing.delete(dispatch);
      models.handled(key);
    }
  }

  #withTicket(payload: HandlerPayload, ticket: number): HandlerRequest {
    const { value, stream, isShadow, terms } = payload;
    payload.abandoned = () => this.#tell({ kind: 'cancel', ticket });
    stream?.connected((items) => this.#tell({ kind: 'pull', ticket, items }));
    const ahead = stream?.ahead;
    return terms === undefined ? { ticket, value, ahead, isShadow } : { ticket, value, ahead, isShadow, terms };
  }

  #tell(message: ReplicaMessage): void {
    this.#environment.host.post(message).catch(() => undefined);
  }

  /** The thread has sent items of a stream. */
  items(ticket: number, items: readonly unknown[]): void {
    this.#ongoing.find(ticket)?.payloadOf(ticket)?.stream?.deliver(items);
  }

  /**
   * Gives the handler another configuration.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` with what the handler threw; `REPLICA_FAILED`.
   */
  async reconfigure(userConfig: unknown): Promise<void> {
    await this.#calls.ask({ kind: 'reconfigure', userConfig });
  }

  /**
   * Resolves when the thread has answered, with or without a handler. A busy thread answers late.
   *
   * @throws InfermuxError with what the handler's check threw; `REPLICA_FAILED`.
   */
  async checkHealth(): Promise<void> {
    await this.#calls.ask({ kind: 'health' });
  }

  /**
   * Asks the handler for the replica's statistics.
   *
   * @param isLate called when the answer arrives: a late answer does not count.
   * @throws InfermuxError with what the handler threw; `REPLICA_FAILED`.
   */
  async recordRoutingStats(isLate: () => boolean): Promise<void> {
    const stats = await this.#calls.ask<Readonly<Record<string, unknown>>>({ kind: 'routing-stats' });
    if (!isLate()) this.#ownStats = stats;
  }
}
