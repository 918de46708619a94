import type { SentTerms } from '../../contracts/handler.js';
import type { RunOptions } from '../../contracts/run-options.js';

/**
 * Returns what a handler is told of the request; undefined when all is as by default, as for most requests.
 *
 * @param deadline when its caller stops waiting: milliseconds as of `Date.now()`.
 */
export function sentTerms(options: RunOptions, deadline: number | undefined): SentTerms | undefined {
  const { requestId, method, shardKey, labels, hints, priority = 0 } = options;
  const terms = { requestId, method, shardKey, labels, hints, deadline };
  const isPlain = Object.values(terms).every((term) => term === undefined);
  if (isPlain && !Number.isFinite(priority || Number.NaN)) return undefined;
  // Shadows have the lowest of all, which is none that a caller may give.
  return withoutUndefined({ ...terms, priority: Number.isFinite(priority) ? priority : 0 });
}

/** The message is shorter without them. */
function withoutUndefined(terms: object): SentTerms {
  return Object.fromEntries(Object.entries(terms).filter(([, term]) => term !== undefined));
}
