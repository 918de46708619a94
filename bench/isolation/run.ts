/**
 * `npm run bench:isolation`: what replicas that are processes cost against threads, in the same run, and what they
 * survive. Prints medians of the rounds. `--rounds N` runs N rounds instead of five; `--requests N` sends N requests, one
 * in a hundred of which kills its replica, instead of 10,000; `--ends N` ends N processes with engines instead of 1,000.
 * On Linux.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { closedLoop, type Load } from '../../dist/cli/bench/load.js';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { countingModel, divisionModel, fillingModel } from '../../test/support/hazard-models.js';
import { endlessRunModel, modelDirectory, scaleModel, trapRunModel } from '../../test/support/onnx-models.js';
import { processesWith } from '../../test/support/processes.js';
import { writePictureModels } from '../load/large/pictures.js';
import { median } from '../load/measurements.js';
import { type BenchModel, temporaryFolder, writeModels } from '../load/models.js';
import { type Goal, goalTable, judge, markdown, place, writeInto } from '../report.js';
import { watchStolenTime } from '../stolen-time.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string' }, requests: { type: 'string' }, ends: { type: 'string' } },
});
const numberOf = (name: keyof typeof values, byDefault: number) => {
  const number = Number(values[name] ?? byDefault);
  if (!Number.isInteger(number) || number < 0) throw new Error(`--${name} must be an integer, got ${values[name]}`);
  return number;
};
const ROUNDS = numberOf('rounds', 5);
const REQUESTS = numberOf('requests', 10_000);
const ENDS = numberOf('ends', 1_000);

const KINDS = ['thread', 'process'] as const;
type Kind = (typeof KINDS)[number];
const DURATION = { warmUpMs: 1_000, milliseconds: 2_500 };
/** What it takes a spare to start, once the replicas run. */
const SPARE_MS = 2_000;
const MB = 1e6;

const models = new Map(
  [...writeModels(temporaryFolder()), ...writePictureModels(temporaryFolder())].map((model) => [model.id, model]),
);

interface Case {
  readonly title: string;
  readonly model: string;
  readonly callers: number;
}

const CASES: readonly Case[] = [
  { title: 'MLP 8→8, 256 callers', model: 'mlp-8', callers: 256 },
  { title: 'digits-cnn, 256 callers', model: 'digits-cnn', callers: 256 },
  { title: 'MLP 8→8, one caller', model: 'mlp-8', callers: 1 },
  { title: '3×640×640, 16 callers', model: 'mean-640', callers: 16 },
  { title: 'CNN of 10 ms, 16 callers', model: 'conv', callers: 16 },
];

async function withEngine<T>(kind: Kind, { id, path }: BenchModel, use: (engine: InferenceEngine) => Promise<T>) {
  const engine = await createEngine({ models: { [id]: path }, replicas: 2, isolation: kind });
  try {
    return await use(engine);
  } finally {
    await engine.close();
  }
}

function load(kind: Kind, { model: id, callers }: Case): Promise<Load> {
  const model = models.get(id) as BenchModel;
  const size = model.dims.reduce((product, dim) => product * dim, 1);
  return withEngine(kind, model, async (engine) => {
    const feeds = Array.from({ length: callers }, () => ({
      [model.input]: { dims: model.dims, data: new Float32Array(size).fill(0.5) },
    }));
    // The spare has started by then.
    await sleep(SPARE_MS);
    return closedLoop((caller) => engine.run(id, feeds[caller] as (typeof feeds)[0]), { callers, ...DURATION });
  });
}

/** Bytes that a process takes of the machine: what it shares with others counts in parts. */
function bytesOf(pid: number): number {
  const kilobytes = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1];
  return 1_024 * Number(kilobytes);
}

/** Of a replica that has answered a hundred thousand requests for one model of a kilobyte, beside another one. */
function memory(): Promise<number> {
  return withEngine('process', models.get('mlp-8') as BenchModel, async (engine) => {
    const feeds = { x: { dims: [1, 8], data: new Float32Array(8) } };
    await closedLoop(() => engine.run('mlp-8', feeds), { callers: 64, warmUpMs: 500, milliseconds: 1_500 });
    const pids = engine.status().replicas.flatMap(({ pid }) => pid ?? []);
    return Math.max(...pids.map(bytesOf));
  });
}

const hazards = modelDirectory({
  double: scaleModel(2),
  endless: endlessRunModel(),
  division: divisionModel(),
  counting: countingModel(),
  filling: fillingModel(),
  trap: trapRunModel(),
});
const integers = (...all: bigint[]) => ({ dims: [all.length], data: BigInt64Array.from(all) });
const row = (value: number) => ({ x: { dims: [1, 4], data: new Float32Array(4).fill(value) } });

/** Milliseconds from the death of the only replica to its next answer, with a spare. */
async function recovery(): Promise<number> {
  const engine = await createEngine({ models: hazards, replicas: 1, isolation: 'process', express: false });
  try {
    await engine.run('double', row(1));
    await sleep(SPARE_MS);
    const [replica] = engine.status().replicas;
    process.kill(replica?.pid as number, 'SIGKILL');
    const began = performance.now();
    // Given to the dead one, and run once more.
    await engine.run('double', row(1));
    return performance.now() - began;
  } finally {
    await engine.close();
  }
}

interface Survived {
  readonly wrong: number;
  readonly good: number;
  readonly killers: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly left: number;
}

/** Many requests, one in a hundred of which kills its replica: in five ways, in turn. */
async function survive(): Promise<Survived> {
  const mark = `survive-${process.pid}`;
  const limits = { runTimeoutMs: 1_000, memoryLimitBytes: 500 * MB };
  const isolation = { kind: 'process', ...limits, spares: 2, env: { BENCH: mark } } as const;
  const handler = new URL('handler.mjs', import.meta.url);
  const engine = await createEngine({
    ...{ models: hazards, replicas: 3, maxModelsPerReplica: 8, isolation },
    deployments: { app: { handler, replicas: 1, isolation } },
  });
  const killers: Record<string, number> = {};
  let [next, good, wrong] = [0, 0, 0];
  const began = performance.now();
  const right = (isRight: boolean) => {
    if (isRight) good += 1;
    else wrong += 1;
  };
  const kill = (number: number) => {
    const more = BigInt(number);
    const [way, answer] = (
      [
        ['division', () => engine.run('division', { a: integers(-(2n ** 63n), more), b: integers(-1n, 1n) })],
        ['endless run', () => engine.run('counting', { x: integers(2n ** 62n + more) })],
        ['run that fills the memory slowly', () => engine.run('filling', { x: integers(10n ** 9n + more) })],
        ['model that always dies', () => engine.run('trap', { x: integers(more) })],
        ['native abort', () => engine.run<unknown>('app', { abort: number })],
      ] as const
    )[Math.floor(number / 100) % 5] as [string, () => Promise<unknown>];
    return answer().then(
      () => right(false),
      ({ code }) => {
        killers[`${way}: ${code}`] = (killers[`${way}: ${code}`] ?? 0) + 1;
      },
    );
  };
  const ask = async (number: number): Promise<boolean> => {
    const more = BigInt(number);
    switch (number % 5) {
      case 0:
        return (await engine.run('division', { a: integers(3n * more), b: integers(3n) }))['y']?.data[0] === more;
      case 1:
        return (await engine.run('counting', { x: integers(more % 40n) }))['y']?.data[0] === more % 40n;
      case 2:
        return (await engine.run('filling', { x: integers(1_000n + more) }))['y']?.data[0] === 1;
      case 3:
        return (await engine.run<unknown>('app', { echo: number })) === number;
      default:
        return (await engine.run('double', row(number)))['y']?.data[3] === 2 * number;
    }
  };
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      while (next < REQUESTS) {
        const number = next;
        next += 1;
        if (number % 100 === 50) await kill(number);
        else right(await ask(number).catch(() => false));
      }
    }),
  );
  const seconds = (performance.now() - began) / 1_000;
  await engine.close();
  return { good, wrong, killers, seconds, left: processesWith('BENCH', mark).length };
}

/** Ends so many processes with engines at once. */
const AT_ONCE = 3;

/** Ends a process with an engine at a random time. @returns whether it leaves a process behind for more than 2 s. */
async function leaves(end: number): Promise<boolean> {
  const program = fileURLToPath(new URL('../../test/support/isolated-child.mjs', import.meta.url));
  const way = ['exit', 'uncaught', 'sigterm', 'sigkill'][end % 4] as string;
  const afterMs = String(Math.floor(Math.random() * 1_200));
  const child = spawn(process.execPath, [program, way, hazards, markOf(end), afterMs], { stdio: 'ignore' });
  await once(child, 'exit');
  const until = performance.now() + 2_000;
  while (processesWith('ISOLATED_CHILD', markOf(end)).length > 0) {
    if (performance.now() > until) return true;
    await sleep(20);
  }
  return false;
}

function markOf(end: number): string {
  return `end-${process.pid}-${end}`;
}

/** @returns how many ends left a process behind. */
async function ends(): Promise<number> {
  let [next, left] = [0, 0];
  const work = async () => {
    while (next < ENDS) {
      const end = next;
      next += 1;
      if (end % 100 === 0) process.stderr.write(`end ${end} of ${ENDS}\n`);
      if (await leaves(end)) left += 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  // One that had not begun when it was looked for has its mark by now.
  await sleep(2_000);
  for (let end = 0; end < ENDS; end += 1) if (processesWith('ISOLATED_CHILD', markOf(end)).length > 0) left += 1;
  return left;
}

interface Round {
  readonly loads: ReadonlyMap<string, Readonly<Record<Kind, Load>>>;
  readonly recoveryMs: number;
  readonly bytes: number;
}

const stolenTime = watchStolenTime();
const measured: Round[] = [];
for (let round = 0; round < ROUNDS; round += 1) {
  process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
  const loads = new Map<string, Record<Kind, Load>>();
  for (const each of CASES) {
    const order = round % 2 === 0 ? KINDS : [...KINDS].reverse();
    const both: Partial<Record<Kind, Load>> = {};
    for (const kind of order) both[kind] = await load(kind, each);
    loads.set(each.title, both as Record<Kind, Load>);
  }
  measured.push({ loads, recoveryMs: await recovery(), bytes: await memory() });
}
const survived = await survive();
const left = ENDS === 0 ? Number.NaN : await ends();

const goal = (what: string, all: readonly number[], unit: Goal['unit'], limit: number, aim: number, atMost = false) =>
  judge({ what, values: all, unit, limit, aim, atMost });
const loadsOf = (title: string) => measured.map(({ loads }) => loads.get(title) as Readonly<Record<Kind, Load>>);
const ratio = (title: string) => loadsOf(title).map(({ thread, process: own }) => own.throughput / thread.throughput);
const slower = loadsOf('MLP 8→8, one caller').map(({ thread, process: own }) => own.p50 / thread.p50);
const goals = [
  goal('MLP 8→8, 256 callers: throughput, relative to threads', ratio('MLP 8→8, 256 callers'), '×', 0.5, 0.8),
  goal('digits-cnn, 256 callers: throughput, relative to threads', ratio('digits-cnn, 256 callers'), '×', 0.5, 0.8),
  goal('one caller: p50, relative to threads', slower, '×', 2.5, 1.5, true),
  goal('3×640×640, 16 callers: throughput, relative to threads', ratio('3×640×640, 16 callers'), '×', 0.4, 0.8),
  goal('CNN of 10 ms, 16 callers: throughput, relative to threads', ratio('CNN of 10 ms, 16 callers'), '×', 0.97, 1),
  goal(
    'from the end of a process to the next answer, with a spare process',
    measured.map(({ recoveryMs }) => recoveryMs),
    'ms',
    50,
    20,
    true,
  ),
  goal(
    'memory of a process without its models',
    measured.map(({ bytes }) => bytes / MB),
    'MB',
    70,
    45,
    true,
  ),
  goal(
    `wrong or lost answers among ${survived.good + survived.wrong} harmless requests`,
    [survived.wrong],
    'times',
    0,
    0,
    true,
  ),
  goal('processes that still run after that', [survived.left], 'times', 0, 0, true),
  ...(ENDS === 0
    ? []
    : [goal(`processes that still run 2 s after their parent ended, in ${ENDS} trials`, [left], 'times', 0, 0, true)]),
];
const rate = (title: string, kind: Kind) => median(loadsOf(title).map((both) => both[kind].throughput)).toFixed(0);
const ms = (title: string, kind: Kind) => median(loadsOf(title).map((both) => both[kind].p50)).toFixed(3);
const details = markdown(
  ['', 'threads', 'processes'],
  CASES.map(({ title, callers }) =>
    callers === 1
      ? [`${title}: p50`, `${ms(title, 'thread')} ms`, `${ms(title, 'process')} ms`]
      : [`${title}: requests/s`, rate(title, 'thread'), rate(title, 'process')],
  ),
);
const table = goalTable(goals);
const answers = Object.entries(survived.killers).map(([how, times]) => `${how} (${times} times)`);
const killed = `${REQUESTS} requests in ${survived.seconds.toFixed(0)} s on four replicas. The harmful ones were answered with these errors: ${answers.join('; ')}.`;
const stolen = stolenTime();
const how = `${place}. ${ROUNDS} rounds, medians${stolen === undefined ? '' : `; ${stolen}`}.`;
process.stdout.write(`${details}\n\n${table}\n\n${killed}\n${how}\n`);
writeInto('bench:isolation', `${how}\n\n${details}\n\n${table}\n\n${killed}`, 'docs/isolation.md');
process.exit(goals.every(({ isReached }) => isReached) ? 0 : 1);
