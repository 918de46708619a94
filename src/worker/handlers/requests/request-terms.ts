import { randomUUID } from 'node:crypto';
import type { RequestTerms } from '../../../contracts/handler.js';
import type { HandlerRequest } from '../../../protocol/messages.js';

const NOTHING = Object.freeze({});

/** What a handler may know of a request. */
export function termsOf({ terms = NOTHING, isShadow }: HandlerRequest, requestId: string): RequestTerms {
  const { traceContext, method, shardKey, labels = NOTHING, hints = NOTHING, priority = 0, deadline } = terms;
  const frozen = { labels: Object.freeze(labels), hints: Object.freeze(hints) };
  return Object.freeze({ requestId, traceContext, method, shardKey, ...frozen, priority, deadline, isShadow });
}

/** The id of a request, and another one for a request that names none. */
export function requestIdOf({ terms }: HandlerRequest): string {
  return terms?.requestId ?? randomUUID();
}
