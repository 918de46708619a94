import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import type { ResolvedFinder } from './finder.js';

/**
 * Asks the finder. It is not waited for when it takes too long, or when nobody wants the answer any more.
 *
 * @throws InfermuxError `MODEL_LOAD_FAILED` with what it throws; the reason of the signal.
 */
export async function askFinder(
  { find, timeoutMs }: Pick<ResolvedFinder, 'find' | 'timeoutMs'>,
  id: string,
  version: number | undefined,
  signal: AbortSignal,
  clock: Clock,
): Promise<unknown> {
  const controller = new AbortController();
  let giveUp: (reason: unknown) => void = () => undefined;
  const givenUp = new Promise<never>((_, reject) => {
    giveUp = (reason) => {
      controller.abort(reason);
      reject(reason);
    };
  });
  const abort = () => giveUp(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  const late = `the finder did not answer within ${timeoutMs} ms`;
  const cancelTimer = clock.schedule(
    () => giveUp(new InfermuxError('MODEL_LOAD_FAILED', late, { retryable: true })),
    timeoutMs,
  );
  try {
    const answer = (async () => find(id, { version, signal: controller.signal }))();
    return await Promise.race([answer, givenUp]);
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    const message = `the finder failed for model ${show(id)}: ${messageOf(cause)}`;
    throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause, retryable: true });
  } finally {
    cancelTimer();
    signal.removeEventListener('abort', abort);
  }
}
