import { setTimeout as sleep } from 'node:timers/promises';

/** Resolves when the condition holds; the test's time-out is the bound. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}
