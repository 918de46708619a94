import { expect, it } from 'vitest';
import { createEngine, type InfermuxError, type Isolation, type Outputs } from '../../../dist/index.js';
import { seededRandom } from '../../../native-models/build/random.js';
import { countingModel, divisionModel } from '../../support/hazard-models.js';
import { modelDirectory, scaleModel } from '../../support/onnx-models.js';
import { processesWith } from '../../support/processes.js';
import { until } from '../../support/until.js';

/** Ten minutes by hand. */
const MILLISECONDS = Number(process.env['INFERMUX_FUZZ_MS'] ?? 8_000);
const SEED = Number(process.env['INFERMUX_FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const SIGNALS = ['SIGKILL', 'SIGSEGV', 'SIGABRT', 'SIGFPE', 'SIGBUS', 'SIGSTOP'] as const;
const CALLERS = 16;

const models = modelDirectory({
  double: scaleModel(2),
  large: scaleModel(3, 30_000),
  division: divisionModel(),
  counting: countingModel(),
});
const integers = (...values: bigint[]) => ({ dims: [values.length], data: BigInt64Array.from(values) });

it.runIf(process.platform === 'linux')(
  `whatever kills, stops, changes and cancels: each request is answered, right or with an error that fits (seed ${SEED})`,
  async () => {
    const random = seededRandom(SEED);
    const below = (limit: number) => Math.floor(random() * limit);
    const mark = `chaos-${process.pid}`;
    const isolation: Isolation = { kind: 'process', runTimeoutMs: 800, killCancelled: true, env: { CHAOS: mark } };
    const engine = await createEngine({
      ...{ models, replicas: 3, maxModelsPerReplica: 3, gracefulShutdownTimeoutMs: 1_500, isolation },
      healthCheck: { periodMs: 300, timeoutMs: 700, failures: 2 },
    });
    const counts: Record<string, number> = {};
    const wrong: unknown[] = [];
    const end = performance.now() + MILLISECONDS;

    /** A request, and what it must be answered with. */
    const request = (): [string, object, number] => {
      const value = below(1_000);
      const kind = random();
      // Few kill by themselves: starts that follow each other without an answer get longer and longer pauses.
      if (kind < 0.002)
        return ['division', { a: integers(-(2n ** 63n), BigInt(value)), b: integers(-1n, 1n) }, Number.NaN];
      if (kind < 0.003) return ['counting', { x: integers(2n ** 62n + BigInt(value)) }, Number.NaN];
      if (kind < 0.1)
        return ['large', { x: { dims: [1, 30_000], data: new Float32Array(30_000).fill(value) } }, 3 * value];
      if (kind < 0.3) return ['division', { a: integers(BigInt(6 * value)), b: integers(3n) }, 2 * value];
      if (kind < 0.5) return ['counting', { x: integers(BigInt(value % 50)) }, value % 50];
      return ['double', { x: { dims: [1, 4], data: new Float32Array(4).fill(value) } }, 2 * value];
    };
    const ask = async () => {
      while (performance.now() < end) {
        const [model, feeds, expected] = request();
        const options = [{}, { timeoutMs: 50 + below(3_000) }, { signal: AbortSignal.timeout(1 + below(300)) }][
          below(3)
        ];
        let outcome = 'answered';
        try {
          const { y } = (await engine.run(model, feeds as never, options as object)) as Outputs;
          const value = Number(y?.data[(y.data.length - 1) as number]);
          if (value !== expected) wrong.push([model, expected, value]);
        } catch (error) {
          outcome = (error as InfermuxError).code ?? String(error);
        }
        counts[outcome] = (counts[outcome] ?? 0) + 1;
      }
    };
    const harm = async () => {
      while (performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 100 + below(900)));
        const pids = processesWith('CHAOS', mark);
        const pid = pids[below(pids.length)];
        try {
          if (pid !== undefined) process.kill(pid, SIGNALS[below(SIGNALS.length)]);
        } catch {
          // It is gone already.
        }
      }
    };
    const change = async () => {
      while (performance.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 300 + below(1_500)));
        // Another process takes the place of each, or one more comes.
        const change = below(2) === 0 ? { replicas: 2 + below(3) } : { maxModelsPerReplica: 2 + below(3) };
        await (await engine.deployments.update('default', change)).done.catch(() => undefined);
      }
    };
    await Promise.all([...Array.from({ length: CALLERS }, ask), harm(), change()]);
    if (process.env['INFERMUX_FUZZ_MS'] !== undefined) process.stderr.write(`${JSON.stringify(counts)}\n`);
    expect(wrong).toEqual([]);
    const codes = ['answered', 'REPLICA_FAILED', 'DEADLINE_EXCEEDED', 'CANCELLED', 'MODEL_LOAD_FAILED'];
    expect(Object.keys(counts).filter((code) => !codes.includes(code))).toEqual([]);
    expect(counts['answered']).toBeGreaterThan(MILLISECONDS / 50);
    // Nothing is left that counts as under way, and it serves.
    await until(() => engine.status().replicas.every(({ state, ongoing }) => state === 'running' && ongoing === 0));
    await until(async () => {
      const answer = await engine
        .run('double', { x: { dims: [1, 4], data: new Float32Array(4) } })
        .catch(() => undefined);
      return answer !== undefined;
    });
    await engine.close();
    await until(() => processesWith('CHAOS', mark).length === 0);
  },
  MILLISECONDS + 90_000,
);
