import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import { discardFound, keepErrorsOf, type ResolvedFinder } from './finder.js';

/**
 * Asks the finder. It is not waited for when it takes too long, or when no caller waits for the answer any more.
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
  const abort = () => controller.abort(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    const answer = (async () => find(id, { version, signal: controller.signal }))();
    answer.then(
      (given) => {
        keepErrorsOf(given);
        if (controller.signal.aborted) discardFound(given);
      },
      () => undefined,
    );
    return await answeredBy(answer, controller, timeoutMs, clock);
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    const message = `the finder failed for model ${show(id)}: ${messageOf(cause)}`;
    throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause, retryable: true });
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/**
 * Ids that the finder lists; none if it lists none.
 *
 * @throws what it throws; InfermuxError `MODEL_LOAD_FAILED` when it takes too long for one of them.
 */
export async function listModels(
  { list, timeoutMs }: Pick<ResolvedFinder, 'list' | 'timeoutMs'>,
  clock: Clock,
): Promise<string[]> {
  const ids: string[] = [];
  const controller = new AbortController();
  const listed = await answeredBy((async () => (await list?.()) ?? [])(), controller, timeoutMs, clock);
  const iterator = Symbol.asyncIterator in listed ? listed[Symbol.asyncIterator]() : listed[Symbol.iterator]();
  for (;;) {
    const next = await answeredBy((async () => iterator.next())(), controller, timeoutMs, clock);
    if (next.done === true) return ids;
    checkModelId(next.value);
    ids.push(next.value);
  }
}

/** The answer, unless the controller aborts before it comes, as it does when that takes too long. */
async function answeredBy<T>(
  answer: Promise<T>,
  controller: AbortController,
  timeoutMs: number,
  clock: Clock,
): Promise<T> {
  const { signal } = controller;
  const late = `the finder did not answer within ${timeoutMs} ms`;
  const cancelTimer = clock.schedule(
    () => controller.abort(new InfermuxError('MODEL_LOAD_FAILED', late, { retryable: true })),
    timeoutMs,
  );
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
  try {
    return await Promise.race([answer, aborted]);
  } finally {
    cancelTimer();
    signal.removeEventListener('abort', abort);
  }
}
