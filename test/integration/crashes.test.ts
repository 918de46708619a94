import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../dist/common/clock.js';
import type { InfermuxError } from '../../dist/common/errors.js';
import { startEngine } from '../../dist/engine/create-engine.js';
import type { InferenceEngine } from '../../dist/engine/engine.js';
import type { EngineOptions } from '../../dist/engine/engine-options.js';
import { areThreads } from '../support/isolation.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';
import { until } from '../support/until.js';

const worker = new URL('../support/crashing-worker.mjs', import.meta.url);
const processWorker = new URL('../support/crashing-process.mjs', import.meta.url);
const directory = modelDirectory({
  double: scaleModel(2),
  triple: scaleModel(3),
  quadruple: scaleModel(4),
  deadly: scaleModel(5),
});
process.env['CRASH_MARKERS'] = mkdtempSync(join(tmpdir(), 'infermux-crashes-'));
let marker = 0;
let engine: InferenceEngine;

async function start(options: EngineOptions = {}): Promise<InferenceEngine> {
  const environment = { clock: systemClock, worker, processWorker, resourceLimits: { maxOldGenerationSizeMb: 128 } };
  engine = await startEngine({ models: directory, replicas: 3, ...options }, environment);
  return engine;
}

const feeds = (first: number, second = 0) => ({ x: { dims: [1, 4], data: Float32Array.of(first, second, 0, 0) } });

/** What the call was answered with: the first number, or the code of the error. */
const outcome = (call: Promise<Record<string, { data: unknown }>>) =>
  call.then(
    ({ y }) => (y as { data: Float32Array }).data[0],
    ({ code }: InfermuxError) => code,
  );

const MANY = 5_000;

/** The first number of so many rows, and in the answer, if it is the same in all of them. */
const manyRows = (first: number) => {
  const data = new Float32Array(4 * MANY);
  for (let row = 0; row < MANY; row += 1) data[4 * row] = first;
  return { x: { dims: [MANY, 4], data } };
};
const common = (call: Promise<Record<string, { data: unknown }>>) =>
  outcome(
    call.then((answer) => {
      const data = answer['y']?.data as Float32Array;
      for (let row = 0; row < MANY; row += 1) if (data[4 * row] !== data[0]) return { y: { data: [`row ${row}`] } };
      return answer;
    }),
  );

const areAllRunning = () => engine.status().replicas.every(({ state }) => state === 'running');
const restarts = () => engine.status().replicas.reduce((sum, replica) => sum + replica.restarts, 0);

afterEach(() => engine?.close());

describe.each([
  ['throws', -1],
  ['exits', -2],
  ['runs out of heap', -3],
])('a worker that %s under load', (_, how) => {
  it('costs nobody an answer: its requests run elsewhere, it comes back, the others never stop', async () => {
    await start();
    let isOver = false;
    let answered = 0;
    const wrong: unknown[] = [];
    const callers = Array.from({ length: 12 }, async (_caller, index) => {
      const model = ['double', 'triple', 'quadruple'][index % 3] as string;
      while (!isOver && engine.status().state === 'running') {
        const answer = await outcome(engine.run(model, feeds(index)));
        if (answer !== index * ((index % 3) + 2)) wrong.push(answer);
        answered += 1;
      }
    });
    await until(() => answered > 100);
    marker += 1;
    // It kills the first replica that gets it; the second answers.
    expect(await outcome(engine.run('double', feeds(how, marker)))).toBe(2 * how);
    const atCrash = answered;
    await until(() => answered > atCrash + 100 && areAllRunning());
    isOver = true;
    await Promise.all(callers);
    expect(wrong).toEqual([]);
    expect(restarts()).toBe(1);
    expect(engine.status().replicas.map(({ ongoing }) => ongoing)).toEqual([0, 0, 0]);
  });

  it('fails a request with REPLICA_FAILED that kills a second replica too, and goes on', async () => {
    await start();
    await engine.run('double', feeds(1));
    const answers = await Promise.all([
      outcome(engine.run('double', feeds(how))),
      outcome(engine.run('triple', feeds(1))),
    ]);
    expect(answers[0]).toBe('REPLICA_FAILED');
    expect([3, 'REPLICA_FAILED']).toContain(answers[1]);
    await until(areAllRunning);
    expect(await outcome(engine.run('double', feeds(4)))).toBe(8);
  });
});

it('a pinned model is loaded again where its replica is started again', async () => {
  await start({ replicas: 2 });
  await engine.models.load('triple', { replicas: 'all', pin: true });
  marker += 1;
  expect(await outcome(engine.run('double', feeds(-1, marker)))).toBe(-2);
  const states = () => engine.models.get('triple').replicas.map(({ state }) => state);
  await until(() => restarts() === 1 && states().length === 2 && states().every((state) => state === 'loaded'));
  expect(engine.models.get('triple').isPinned).toBe(true);
});

it('a replica can fail again and again, and takes what it was handed over', async () => {
  await start({ replicas: 1 });
  for (let crash = 0; crash < 3; crash += 1) {
    marker += 1;
    // Taken over, not copied: the second attempt must have the values all the same.
    expect(await outcome(engine.run('double', feeds(-1, marker), { transfer: true }))).toBe(-2);
  }
  expect(restarts()).toBe(3);
});

describe('the pause before a restart', () => {
  /** An engine with the pauses that its replicas were given. */
  async function startTimed(options: EngineOptions = {}) {
    const pauses: number[] = [];
    const warn = ({ delayMs }: { delayMs?: number }) => {
      if (delayMs !== undefined) pauses.push(delayMs);
    };
    const quiet = () => undefined;
    await start({ replicas: 1, logger: { debug: quiet, info: quiet, warn, error: quiet }, ...options });
    return pauses;
  }

  it('stays short where each replica answers before it dies, whatever it dies of', async () => {
    const pauses = await startTimed();
    for (const how of [-1, -2, -3, -1, -2, -1, -2]) {
      // The one that dies has answered this.
      expect(await outcome(engine.run('double', feeds(1)))).toBe(2);
      marker += 1;
      expect(await outcome(engine.run('double', feeds(how, marker)))).toBe(2 * how);
    }
    expect(pauses).toHaveLength(7);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(500);
    expect(engine.ready).toBe(true);
  });

  it('stays short where one of several requests always ends its thread, and the others are answered', async () => {
    const pauses = await startTimed();
    for (let round = 0; round < 4; round += 1) {
      // Another one each time: the same is barred.
      const deadly = { x: { dims: [1, 4], data: Float32Array.of(-1, 0, round, 0) } };
      expect(await outcome(engine.run('double', deadly))).toBe('REPLICA_FAILED');
      expect(await outcome(engine.run('double', deadly))).toBe('REPLICA_FAILED');
      expect(await outcome(engine.run('double', feeds(round)))).toBe(2 * round);
      expect(await outcome(engine.run('triple', feeds(round)))).toBe(3 * round);
    }
    // The request gets a second attempt, which nothing precedes.
    expect(pauses).toHaveLength(8);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(500);
  });

  it('stays short for replicas that autoscaling starts', async () => {
    const pauses = await startTimed({ replicas: undefined, autoscaling: { minReplicas: 1, maxReplicas: 1 } });
    for (let crash = 0; crash < 5; crash += 1) {
      expect(await outcome(engine.run('double', feeds(1)))).toBe(2);
      marker += 1;
      expect(await outcome(engine.run('double', feeds(-2, marker)))).toBe(-4);
    }
    expect(Math.max(...pauses)).toBeLessThanOrEqual(500);
  });
});

describe('a load that kills its thread', () => {
  it('is not tried again for a while, and the other models go on', async () => {
    await start({ replicas: 2 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => outcome(engine.run('deadly', feeds(1)))));
    expect(answers).toEqual(Array(20).fill('MODEL_LOAD_FAILED'));
    expect(await outcome(engine.run('deadly', feeds(1)))).toBe('MODEL_LOAD_FAILED');
    await until(areAllRunning);
    // The other replica may have begun its load before the first one's death was known.
    expect(restarts()).toBeLessThanOrEqual(2);
    expect(await outcome(engine.run('double', feeds(1)))).toBe(2);
  });
});

it('memory of large inputs is used again only when nobody reads it, though callers cancel and replicas die', async () => {
  await start();
  let isOver = false;
  const counts = { right: 0, CANCELLED: 0 };
  const wrong: unknown[] = [];
  const callers = Array.from({ length: 12 }, async (_, caller) => {
    for (let call = 0; !isOver && engine.status().state === 'running'; call += 1) {
      const value = 100 * caller + (call % 100);
      const cancel = new AbortController();
      const answer = common(engine.run('triple', manyRows(value), { signal: cancel.signal }));
      if (call % 3 === 2) setImmediate(() => cancel.abort());
      const result = await answer;
      if (result === 3 * value) counts.right += 1;
      else if (result === 'CANCELLED') counts.CANCELLED += 1;
      else wrong.push(result);
    }
  });
  for (let crash = 1; crash <= 3; crash += 1) {
    await until(() => counts.right > 60 * crash && counts.CANCELLED > 10 * crash);
    marker += 1;
    expect(await outcome(engine.run('double', feeds(-1, marker)))).toBe(-2);
  }
  isOver = true;
  await Promise.all(callers);
  expect(wrong).toEqual([]);
  expect(restarts()).toBe(3);
});

describe('threads that cannot start', () => {
  it.runIf(areThreads)('make createEngine reject with the reason', async () => {
    const broken = new URL('../support/broken-worker.mjs', import.meta.url);
    const started = startEngine({ models: directory, replicas: 2 }, { clock: systemClock, worker: broken });
    await expect(started).rejects.toMatchObject({
      code: 'REPLICA_FAILED',
      message: expect.stringContaining('broken at the start'),
    });
  });

  it('leave nothing behind that keeps the next engine from starting', async () => {
    const running = await start();
    expect(await outcome(running.run('double', feeds(3)))).toBe(6);
  });
});

describe('whatever mix of runs, cancels, deadlines, crashes and evictions', () => {
  const operation = fc.oneof(
    { weight: 8, arbitrary: fc.record({ kind: fc.constant('run' as const), model: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('cancel' as const), model: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('deadline' as const), timeoutMs: fc.nat(5) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), how: fc.constantFrom(-1, -2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('pause' as const) }) },
  );

  it('every accepted request is answered and nothing is left behind', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { minLength: 20, maxLength: 60, size: 'max' }), async (operations) => {
        // One session each: three models on two replicas evict each other all the time.
        const running = await start({ replicas: 2, maxModelsPerReplica: 1 });
        // The first number of the answer, which the model multiplied: 'right', or of another kind of request its own.
        const right = new Set<unknown>(['right', 2, 3, -4, -8]);
        const allowed = new Set<unknown>(['CANCELLED', 'DEADLINE_EXCEEDED', 'REPLICA_FAILED']);
        const answers: Promise<unknown>[] = [];
        let crashes = 0;
        for (const current of operations) {
          if (current.kind === 'run') {
            const model = ['double', 'triple', 'quadruple'][current.model] as string;
            answers.push(
              outcome(running.run(model, feeds(1))).then((answer) => (answer === current.model + 2 ? 'right' : answer)),
            );
          } else if (current.kind === 'cancel') {
            const controller = new AbortController();
            answers.push(outcome(running.run('triple', feeds(1), { signal: controller.signal })));
            setImmediate(() => controller.abort());
          } else if (current.kind === 'deadline') {
            answers.push(outcome(running.run('double', feeds(1), { timeoutMs: current.timeoutMs })));
          } else if (current.kind === 'crash') {
            // More would only test the back-off's patience.
            crashes += 1;
            if (crashes > 3) continue;
            marker += 1;
            answers.push(outcome(running.run('quadruple', feeds(current.how, marker))));
          } else {
            await answers.at(-1);
          }
        }
        const settled = await Promise.all(answers);
        const strange = settled.filter((answer) => !right.has(answer) && !allowed.has(answer));
        expect(strange).toEqual([]);
        // A cancelled run ends unseen.
        await until(() => areAllRunning() && running.status().replicas.every(({ ongoing }) => ongoing === 0));
        expect(running.status().queued).toBe(0);
        await running.close();
      }),
      { numRuns: 20 },
    );
  }, 60_000);
});
