import { setTimeout as sleep } from 'node:timers/promises';

const LONGEST_MS = 20_000;

/** Resolves when the condition holds. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const startedAt = performance.now();
  while (!(await condition())) {
    if (performance.now() - startedAt > LONGEST_MS) throw new Error(`not within ${LONGEST_MS} ms: ${condition}`);
    await sleep(1);
  }
}
