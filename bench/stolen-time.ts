import { readFileSync } from 'node:fs';

/** Times of the processors since the machine was started, in ticks: all together, and what its host gave to others. */
function times(): readonly [number, number] | undefined {
  try {
    const [, ...ticks] = (readFileSync('/proc/stat', 'utf8').split('\n', 1)[0] as string).split(/\s+/).map(Number);
    return [ticks.slice(0, 8).reduce((sum, each) => sum + each, 0), ticks[7] ?? 0];
  } catch {
    return undefined;
  }
}

/**
 * Begins to measure the time that the host of a virtual machine gave to others while the machine wanted it. Latencies are
 * longer for it.
 *
 * @returns says how much it was; undefined where the system does not tell.
 */
export function watchStolenTime(): () => string | undefined {
  const before = times();
  return () => {
    const after = times();
    if (before === undefined || after === undefined) return undefined;
    const share = (after[1] - before[1]) / (after[0] - before[0]);
    return `steal time ${(100 * share).toFixed(1)} %`;
  };
}
