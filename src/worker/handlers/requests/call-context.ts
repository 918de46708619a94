import type { HandlerContext, HandlerEngine, LogFields, RequestTerms } from '../../../contracts/handler.js';
import type { TraceContext } from '../../../contracts/trace-context.js';
import type { HandlerRequest } from '../../../protocol/messages.js';
import type { Feeds, Outputs } from '../../../tensors/tensor.js';
import { loggableFields, loggableText } from '../loggable.js';
import { unminded } from '../unminded.js';
import type { EngineRuns } from './engine-runs.js';
import type { OngoingCall } from './ongoing-requests.js';
import type { RequestModels } from './request-models.js';
import { requestIdOf, termsOf } from './request-terms.js';

export interface CallEnvironment {
  readonly replica: string;
  readonly engineRuns: EngineRuns;
  log(level: 'debug' | 'info' | 'warn' | 'error', fields: LogFields, message: string): void;
}

/** The context of one call of a handler. Most handlers look at little of it, so little is made before they do. */
export class CallContext implements HandlerContext {
  readonly replica: string;
  readonly modelId: string | undefined;
  readonly run: (model: string, feeds: Feeds, outputs?: readonly string[]) => Promise<Outputs>;
  readonly log: HandlerContext['log'];
  readonly getModel: HandlerContext['getModel'];
  readonly #environment: CallEnvironment;
  readonly #requests: readonly HandlerRequest[];
  readonly #ongoing: OngoingCall;
  #requestId: string | undefined;
  #terms: readonly RequestTerms[] | undefined;

  constructor(
    environment: CallEnvironment,
    modelId: string | undefined,
    requests: readonly HandlerRequest[],
    ongoing: OngoingCall,
    models: RequestModels,
  ) {
    this.#environment = environment;
    this.#requests = requests;
    this.#ongoing = ongoing;
    this.replica = environment.replica;
    this.modelId = modelId;
    // A handler may take them out of the context.
    this.run = (model, feeds, outputs) => unminded(models.run(model, feeds, outputs));
    this.log = (level, fields, message) => environment.log(level, loggableFields(fields), loggableText(message));
    this.getModel = ((id: string) => unminded(models.get(id))) as HandlerContext['getModel'];
  }

  get requests(): readonly RequestTerms[] {
    this.#terms ??= this.#requests.map((request, index) =>
      termsOf(request, index === 0 ? this.requestId : requestIdOf(request)),
    );
    return this.#terms;
  }

  get requestId(): string {
    this.#requestId ??= requestIdOf(this.#first);
    return this.#requestId;
  }

  get traceContext(): TraceContext | undefined {
    return this.#first.terms?.traceContext;
  }

  get method(): string | undefined {
    return this.#first.terms?.method;
  }

  get shardKey(): string | undefined {
    return this.#own.shardKey;
  }

  get labels(): RequestTerms['labels'] {
    return this.#own.labels;
  }

  get hints(): RequestTerms['hints'] {
    return this.#own.hints;
  }

  get priority(): number {
    return this.#own.priority;
  }

  get deadline(): number | undefined {
    return this.#own.deadline;
  }

  get isShadow(): boolean {
    return this.#first.isShadow;
  }

  get signal(): AbortSignal {
    return this.#ongoing.signal;
  }

  get engine(): HandlerEngine {
    return this.#environment.engineRuns.of(this.#first.ticket, this);
  }

  get #first(): HandlerRequest {
    return this.#requests[0] as HandlerRequest;
  }

  get #own(): RequestTerms {
    return this.requests[0] as RequestTerms;
  }
}
