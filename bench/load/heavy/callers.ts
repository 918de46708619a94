import type { InferenceEngine, InferenceResult } from '../../../dist/index.js';
import { randomInputs } from '../drivers.js';
import type { BenchModel } from '../models.js';
import type { Answer } from './runs.js';

/** Callers of one model in a closed loop. */
export interface Calling {
  /** Answers so far, in the order of arrival. */
  readonly answers: readonly Answer[];
  readonly startedAt: number;
  /** The first answer. */
  readonly first: Promise<InferenceResult>;
  /** Lets all callers end. Resolves when everything is answered. */
  stop(): Promise<void>;
}

/** @param pause is awaited by each caller between an answer and its next request. */
export function call(
  engine: InferenceEngine,
  { id, input, dims }: BenchModel,
  callers: number,
  pause: () => Promise<unknown> | undefined = () => undefined,
): Calling {
  const inputs = randomInputs({ dims }, callers);
  const answers: Answer[] = [];
  let isOver = false;
  const ask = async (data: Float32Array): Promise<InferenceResult> => {
    const sentAt = performance.now();
    const result = await engine.infer({ target: id, feeds: { [input]: { data, dims } } });
    const at = performance.now();
    answers.push({ at, latencyMs: at - sentAt, replica: result.replica, batchSize: result.batchSize });
    return result;
  };
  const startedAt = performance.now();
  const firsts = inputs.map(ask);
  const all = firsts.map(async (first, caller) => {
    await first;
    while (!isOver) {
      await pause();
      await ask(inputs[caller] as Float32Array);
    }
  });
  // Who stops waits for it, and then hears of a failure.
  for (const one of all) one.catch(() => undefined);
  return {
    ...{ answers, startedAt },
    first: Promise.race(firsts),
    stop: async () => {
      isOver = true;
      await Promise.all(all);
    },
  };
}
