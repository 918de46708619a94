import { randomUUID } from 'node:crypto';
import type { RequestTerms } from '../../../contracts/handler.js';
import type { HandlerRequest } from '../../../protocol/messages.js';

const NOTHING = Object.freeze({});

/** What a handler is told of a request. Most handlers do not ask, so nothing is made before. */
export class OwnTerms implements RequestTerms {
  readonly #request: HandlerRequest;
  #requestId: string | undefined;

  constructor(request: HandlerRequest) {
    this.#request = request;
  }

  get requestId(): string {
    this.#requestId ??= this.#request.terms?.requestId ?? randomUUID();
    return this.#requestId;
  }

  get method(): string | undefined {
    return this.#request.terms?.method;
  }

  get shardKey(): string | undefined {
    return this.#request.terms?.shardKey;
  }

  get labels(): RequestTerms['labels'] {
    return this.#request.terms?.labels ?? NOTHING;
  }

  get hints(): RequestTerms['hints'] {
    return this.#request.terms?.hints ?? NOTHING;
  }

  get priority(): number {
    return this.#request.terms?.priority ?? 0;
  }

  get deadline(): number | undefined {
    return this.#request.terms?.deadline;
  }

  get isShadow(): boolean {
    return this.#request.isShadow;
  }
}
