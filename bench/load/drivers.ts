import { Bench } from 'tinybench';
import { closedLoop, Latencies, type Load, measured } from '../../dist/cli/bench/load.js';
import type { Contender } from './contenders.js';
import type { BenchModel } from './models.js';

export interface Duration {
  readonly warmUpMs: number;
  readonly milliseconds: number;
}

/** Measures single calls of one caller with tinybench. */
export async function oneCall(contender: Contender, model: BenchModel, duration: Duration): Promise<Load> {
  const [input] = randomInputs(model, 1);
  const bench = new Bench({ time: duration.milliseconds, warmupTime: duration.warmUpMs, retainSamples: true });
  bench.add('call', () => contender.run(input as Float32Array));
  const { loopDelayP99 } = await measured(async () => {
    await bench.run();
  });
  const [task] = bench.tasks;
  if (task?.result.state !== 'completed') throw new Error(`a call failed: ${JSON.stringify(task?.result)}`);
  const { latency, throughput } = task.result;
  const sorted = Float64Array.from(latency.samples ?? []).sort();
  const p95 = sorted[Math.floor(sorted.length * 0.95)] ?? Number.NaN;
  return { throughput: throughput.mean, p50: latency.p50, p95, p99: latency.p99, loopDelayP99 };
}

/** Runs a closed loop: each of `callers` callers sends its next request when its last one is answered. */
export async function manyCallers(
  contender: Contender,
  model: BenchModel,
  callers: number,
  duration: Duration,
): Promise<Load> {
  const inputs = randomInputs(model, callers);
  return closedLoop((caller) => contender.run(inputs[caller] as Float32Array), { callers, ...duration });
}

/** Most requests in one turn of the event loop. A server too reads only so much from its sockets in a turn. */
const MOST_IN_A_TURN = 256;

/**
 * Sends requests at random times (a Poisson process), `perSecond` on average, whether or not earlier ones are answered.
 * Latency counts from the time at which a request should have been sent, so that a delayed caller does not hide it.
 */
export async function openLoop(
  contender: Contender,
  model: BenchModel,
  perSecond: number,
  { warmUpMs, milliseconds }: Duration,
): Promise<Load> {
  const inputs = randomInputs(model, 64);
  const gapMs = () => (-Math.log(1 - Math.random()) * 1_000) / perSecond;
  // A chain of immediates without promises: this loop never rests, and must not keep the garbage collector busy.
  const run = (duration: number, latencies: Latencies) =>
    new Promise<void>((resolve, reject) => {
      const startedAt = performance.now();
      const endsAt = startedAt + duration;
      let intendedAt = startedAt + gapMs();
      let underWay = 0;
      let sent = 0;
      let hasFailed = false;
      const fail = (error: unknown) => {
        hasFailed = true;
        reject(error);
      };
      const turn = () => {
        const now = performance.now();
        const most = sent + MOST_IN_A_TURN;
        for (; sent < most && intendedAt <= now && intendedAt < endsAt; intendedAt += gapMs()) {
          const since = intendedAt;
          sent += 1;
          underWay += 1;
          // Not a named function: tsx would define it, with its name, for each request.
          contender.run(inputs[sent % inputs.length] as Float32Array).then(() => {
            underWay -= 1;
            latencies.add(performance.now() - since);
          }, fail);
        }
        // Not before the last request was sent, however late: it is part of the measurement.
        if (intendedAt >= endsAt && underWay === 0) resolve();
        else if (!hasFailed) setImmediate(turn);
      };
      turn();
    });
  await run(warmUpMs, new Latencies());
  return measured((latencies) => run(milliseconds, latencies));
}

export function randomInputs({ dims }: Pick<BenchModel, 'dims'>, count: number): Float32Array[] {
  const length = dims.reduce((product, size) => product * size, 1);
  return Array.from({ length: count }, () => Float32Array.from({ length }, () => Math.random() * 2 - 1));
}
