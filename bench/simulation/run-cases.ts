import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { progressBar } from '../../dist/cli/terminal/progress-bar.js';

/**
 * Runs simulations, as many at a time as there are cores.
 *
 * @param file exports the function that runs one case.
 * @param cases in any order.
 * @param threads simulations at a time.
 * @returns the outcomes, in the same order.
 */
export async function runCases<C, O>(
  file: URL,
  cases: readonly C[],
  threads = availableParallelism(),
): Promise<readonly O[]> {
  const pool = new Piscina<C, O>({
    filename: file.href,
    maxThreads: threads,
    execArgv: ['--import', 'tsx'],
    // Large, so that the garbage collector does not copy waiting requests again and again.
    resourceLimits: { maxYoungGenerationSizeMb: 192 },
  });
  const bar = progressBar('simulations');
  let done = 0;
  const outcomes = await Promise.all(
    cases.map(async (each) => {
      const outcome = await pool.run(each);
      done += 1;
      bar.update(done, cases.length);
      return outcome;
    }),
  );
  bar.stop();
  await pool.close();
  return outcomes;
}
