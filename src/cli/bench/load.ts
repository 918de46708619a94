import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Throughput and latencies of requests under load. Times in milliseconds. */
export interface Load {
  /** Answers per second. */
  readonly throughput: number;
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** 99th percentile of a timer's delay on the calling thread. */
  readonly loopDelayP99: number;
}

/** Resolution of the timer that watches the event loop. A timer of 1 ms would take some per cent of a core. */
const RESOLUTION_MS = 5;

/**
 * Runs a closed loop: each of `callers` callers sends its next request when its last one is answered.
 *
 * @param send sends one request of the given caller.
 */
export async function closedLoop(
  send: (caller: number) => Promise<unknown>,
  { callers, warmUpMs, milliseconds }: { callers: number; warmUpMs: number; milliseconds: number },
): Promise<Load> {
  const run = async (duration: number, latencies: Latencies): Promise<void> => {
    const until = performance.now() + duration;
    const call = async (caller: number) => {
      for (let startedAt = performance.now(); startedAt < until; ) {
        await send(caller);
        const endedAt = performance.now();
        latencies.add(endedAt - startedAt);
        startedAt = endedAt;
      }
    };
    await Promise.all(Array.from({ length: callers }, (_, caller) => call(caller)));
  };
  await run(warmUpMs, new Latencies());
  return measured((latencies) => run(milliseconds, latencies));
}

/** Latencies of many requests, in milliseconds, kept in typed arrays: they are no work for the garbage collector. */
export class Latencies {
  readonly #chunks: Float64Array[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(milliseconds: number): void {
    const place = this.#count % CHUNK;
    if (place === 0) this.#chunks.push(new Float64Array(CHUNK));
    (this.#chunks.at(-1) as Float64Array)[place] = milliseconds;
    this.#count += 1;
  }

  sorted(): Float64Array {
    const all = new Float64Array(this.#chunks.length * CHUNK);
    for (const [index, chunk] of this.#chunks.entries()) all.set(chunk, index * CHUNK);
    return all.subarray(0, this.#count).sort();
  }
}

/** Chunks do not grow. A growing array is copied, which takes milliseconds in the middle of a measurement. */
const CHUNK = 65_536;

/** Measures `work`, which adds the latency of each answer. */
export async function measured(work: (latencies: Latencies) => Promise<void>): Promise<Load> {
  const latencies = new Latencies();
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  loop.enable();
  const startedAt = performance.now();
  await work(latencies).finally(() => loop.disable());
  const elapsedMs = performance.now() - startedAt;
  const sorted = latencies.sorted();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return {
    throughput: (latencies.count * 1_000) / elapsedMs,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    loopDelayP99: Math.max(0, loop.percentile(99) / 1e6 - RESOLUTION_MS),
  };
}
