import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How requests fared under load. Times in milliseconds. */
export interface Load {
  /** Answers per second. */
  readonly throughput: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** 99th percentile of how late a timer was on the calling thread. */
  readonly loopDelayP99: number;
}

/** Of the timer that watches the event loop. One of 1 ms would take some per cent of a core for itself. */
const RESOLUTION_MS = 5;

/**
 * A closed loop: so many callers, each of which sends its next request when the last one is answered.
 *
 * @param send sends one request of the given caller.
 */
export async function closedLoop(
  send: (caller: number) => Promise<unknown>,
  { callers, warmUpMs, milliseconds }: { callers: number; warmUpMs: number; milliseconds: number },
): Promise<Load> {
  const run = async (duration: number, latencies: number[]): Promise<void> => {
    const until = performance.now() + duration;
    const call = async (caller: number) => {
      for (let startedAt = performance.now(); startedAt < until; ) {
        await send(caller);
        const endedAt = performance.now();
        latencies.push(endedAt - startedAt);
        startedAt = endedAt;
      }
    };
    await Promise.all(Array.from({ length: callers }, (_, caller) => call(caller)));
  };
  await run(warmUpMs, []);
  return measured((latencies) => run(milliseconds, latencies));
}

/** Measures work that adds the latency of each answer to a list. */
export async function measured(work: (latencies: number[]) => Promise<void>): Promise<Load> {
  const latencies: number[] = [];
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  loop.enable();
  const startedAt = performance.now();
  await work(latencies).finally(() => loop.disable());
  const elapsedMs = performance.now() - startedAt;
  const sorted = Float64Array.from(latencies).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return {
    throughput: (latencies.length * 1_000) / elapsedMs,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    loopDelayP99: Math.max(0, loop.percentile(99) / 1e6 - RESOLUTION_MS),
  };
}
