import type { SentTerms } from '../../contracts/handler.js';
import type { RunOptions } from '../../contracts/run-options.js';

/**
 * Returns what a handler is told of the request; undefined when all is as by default, as for most requests. What is as by
 * default is not sent.
 *
 * @param deadline when its caller stops waiting: milliseconds as of `Date.now()`.
 */
export function sentTerms(options: RunOptions, deadline: number | undefined): SentTerms | undefined {
  const { requestId, traceContext, method, shardKey, labels, hints, priority = 0 } = options;
  // Shadows have the lowest of all, which is none that a caller may give.
  const isOrdered = priority !== 0 && Number.isFinite(priority);
  const isTraced = requestId !== undefined || traceContext !== undefined;
  const isNamed = isTraced || method !== undefined || shardKey !== undefined;
  const isPlain = !isNamed && !isOrdered && labels === undefined && hints === undefined;
  if (isPlain) return deadline === undefined ? undefined : { deadline };
  // Assigned one by one: this runs for each request.
  const terms: { -readonly [Term in keyof SentTerms]: SentTerms[Term] } = {};
  if (deadline !== undefined) terms.deadline = deadline;
  if (requestId !== undefined) terms.requestId = requestId;
  if (traceContext !== undefined) terms.traceContext = traceContext;
  if (method !== undefined) terms.method = method;
  if (shardKey !== undefined) terms.shardKey = shardKey;
  if (labels !== undefined) terms.labels = labels;
  if (hints !== undefined) terms.hints = hints;
  if (isOrdered) terms.priority = priority;
  return terms;
}
