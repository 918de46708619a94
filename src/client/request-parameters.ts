import { InfermuxError, show } from '../common/errors.js';
import type { RunOptions } from '../contracts/run-options.js';
import { HIGHEST_PRIORITY } from '../open-inference/inference-call.js';
import type { CallTerms } from './transports/transport.js';

/**
 * Puts the terms of a request into the protocol's parameters.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for options that the protocol cannot carry.
 */
export function parametersOf(
  { priority, shardKey, hints, method, labels, waitForCapacityMs }: RunOptions,
  { deadline }: CallTerms,
): Record<string, string | number | boolean> {
  if (labels !== undefined || waitForCapacityMs !== undefined) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      'labels and waitForCapacityMs are for an engine: a server cannot be told them',
    );
  }
  return {
    ...hints,
    ...(priority === undefined || priority === 0 ? {} : { priority: wirePriority(priority) }),
    ...(shardKey === undefined ? {} : { sequence_id: shardKey }),
    ...(method === undefined ? {} : { method }),
    ...(deadline === undefined ? {} : { timeout: Math.max(1, Math.round((deadline - Date.now()) * 1_000)) }),
  };
}

/** In the protocol 1 is the highest priority, and there is none below that of requests that name none. */
function wirePriority(priority: number): number {
  if (Number.isSafeInteger(priority) && priority > 0 && priority <= HIGHEST_PRIORITY)
    return HIGHEST_PRIORITY - priority + 1;
  const message = `priority must be an integer from 0 to ${HIGHEST_PRIORITY} for a server, got ${show(priority)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
