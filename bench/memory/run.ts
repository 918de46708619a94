/**
 * `npm run bench:memory`: measures what a large model costs in several replicas, with private, with shared and with default weights.
 * Each case runs in a process of its own. Prints medians of the rounds. `--rounds N` runs N rounds instead of three.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { writePictureModels } from '../load/large/pictures.js';
import { median } from '../load/measurements.js';
import type { BenchModel } from '../load/models.js';
import { type Goal, goalTable, judge, machine, markdown, place, writeInto } from '../report.js';
import { type WeightyModel, writeWeightyModels } from './models.js';

const { rounds = '3' } = parseArgs({ options: { rounds: { type: 'string' } } }).values;
const ROUNDS = Number(rounds);
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be a positive integer, got ${rounds}`);
const MAX_REPLICAS = 4;
const KINDS = ['private', 'auto', 'shared'] as const;
const CASE = fileURLToPath(new URL('case.mjs', import.meta.url));

type Kind = (typeof KINDS)[number];

/** Milliseconds of the load in each replica, and bytes of private memory after each replica has run. */
interface Loads {
  readonly loads: readonly number[];
  readonly bytes: number;
  /** Bytes of private memory when the replicas run and nothing is loaded. */
  readonly bytesBefore: number;
  /** Replicas that have run nothing. If any has not, the memory is not that of sessions in use. */
  readonly idle: number;
}

interface Runs {
  readonly same: boolean;
  readonly batches: Readonly<Record<string, Readonly<Partial<Record<Kind, number>>>>>;
}

/** The 99th percentiles of requests, in milliseconds: with private weights, and while sessions change over. */
interface Change {
  readonly before: number;
  readonly meanwhile: number;
}

/** Wide sessions that came for a lone caller, and the bytes of private memory that they took. */
interface Wide {
  readonly wide: number;
  readonly bytes: number;
}

/** One round of one model. */
interface Round {
  /** Loads by the number of replicas, from 1. */
  readonly loads: Readonly<Record<Kind, readonly Loads[]>>;
  /** Milliseconds of the very first load, which compiles. */
  readonly compileMs: number;
  readonly runs: Runs;
  readonly wide: Wide;
  /** Undefined for a model of which it is not asked. */
  readonly change: Change | undefined;
}

function runCase<T>(...args: readonly string[]): T {
  return JSON.parse(execFileSync(process.execPath, [CASE, ...args], { encoding: 'utf8', maxBuffer: 2 ** 24 })) as T;
}

function measure({ path, row }: WeightyModel, store: string, withChange: boolean): Round {
  // An engine with default options knows a store that it has used.
  const storeOf = (kind: Kind | 'change') => `${store}-${kind}`;
  for (const kind of [...KINDS, 'change'] as const) rmSync(storeOf(kind), { recursive: true, force: true });
  const dims = JSON.stringify(row);
  const load = (kind: Kind, replicas: number) => {
    if (kind === 'auto') rmSync(storeOf(kind), { recursive: true, force: true });
    return runCase<Loads>('load', path, kind, storeOf(kind), String(replicas), dims);
  };
  const compileMs = load('shared', 1).loads[0] as number;
  const counts = Array.from({ length: MAX_REPLICAS }, (_, index) => index + 1);
  // In turns, so that all kinds see the machine in the same state.
  const turns = counts.map((replicas) => KINDS.map((kind) => load(kind, replicas)));
  if (turns.flat().some(({ idle }) => idle > 0)) throw new Error('a replica has run nothing');
  const loadsOf = (kind: Kind) => turns.map((turn) => turn[KINDS.indexOf(kind)] as Loads);
  const loads = { private: loadsOf('private'), auto: loadsOf('auto'), shared: loadsOf('shared') };
  const wide = runCase<Wide>('wide', path, storeOf('shared'), dims);
  const runs = runCase<Runs>('run', path, storeOf('shared'), dims);
  const change = withChange ? runCase<Change>('change', path, storeOf('change'), dims) : undefined;
  return { loads, compileMs, runs, wide, change };
}

/**
 * Returns the bytes that each replica adds from the third on. A page that only one session maps counts as private, so
 * shared pages stop counting at the second replica.
 */
function bytesPerReplica({ loads }: Round, kind: Kind, read = ({ bytes }: Loads) => bytes): number {
  const all = loads[kind].map(read);
  return ((all.at(-1) as number) - (all[1] as number)) / (all.length - 2);
}

/** The part of these bytes that the thread takes without a loaded model. */
const threadBytes = (round: Round, kind: Kind) => bytesPerReplica(round, kind, ({ bytesBefore }) => bytesBefore);

const firstLoadMs = ({ loads }: Round, kind: Kind) => median(loads[kind].map((one) => one.loads[0] as number));
const furtherLoadMs = ({ loads }: Round, kind: Kind) => median(loads[kind].flatMap((one) => one.loads.slice(1)));
const runRatio = ({ runs }: Round, batch: number) => {
  const times = runs.batches[batch] ?? {};
  return (times.shared ?? Number.NaN) / (times.private ?? Number.NaN);
};

/** Returns the goals of the first model. */
function goalsOf({ title, weightBytes }: WeightyModel, all: readonly Round[]): Goal[] {
  const goal = (what: string, read: (round: Round) => number, limit: number, aim: number): Goal => ({
    ...{ what: `${title}: ${what}`, values: all.map(read), unit: '×', limit, aim, atMost: true },
  });
  const ofWeights = (round: Round) => bytesPerReplica(round, 'shared') / weightBytes;
  const ofWide = ({ wide: { wide, bytes } }: Round) =>
    wide === 0 ? Number.POSITIVE_INFINITY : bytes / wide / weightBytes;
  const load = (round: Round) => furtherLoadMs(round, 'shared') / furtherLoadMs(round, 'private');
  const ofDefault = ({ loads }: Round) => (loads.auto.at(-1) as Loads).bytes / (loads.private[0] as Loads).bytes;
  const first = (round: Round) => firstLoadMs(round, 'auto') / firstLoadMs(round, 'private');
  const change = ({ change: found }: Round) => (found === undefined ? Number.NaN : found.meanwhile / found.before);
  return [
    goal(`${MAX_REPLICAS} replicas, default options, private memory relative to one replica's`, ofDefault, 1.6, 1.3),
    goal('first load ever, default options, relative to private weights', first, 1.1, 1),
    goal('p99 of requests while sessions switch to shared weights, relative to before', change, 1.5, 1.1),
    goal(
      'private memory of a further replica with its thread, relative to the size of the weights',
      ofWeights,
      0.15,
      0.08,
    ),
    goal('private memory of a wide session, relative to the size of the weights', ofWide, 0.15, 0.08),
    goal('load in a further replica, relative to private weights', load, 0.6, 0.1),
    goal('run at batch 1, relative to private weights', (round) => runRatio(round, 1), 1.05, 1),
    goal('run at batch 16, relative to private weights', (round) => runRatio(round, 16), 1.05, 1),
  ];
}

/** "none" where no wide session came. */
function wideMegabytes(all: readonly Round[]): string {
  const came = all.filter(({ wide }) => wide.wide > 0);
  return came.length === 0 ? 'none' : (median(came.map(({ wide: { wide, bytes } }) => bytes / wide)) / 1e6).toFixed(0);
}

function lineOf({ title, weightBytes }: WeightyModel, all: readonly Round[], kind: Kind): string[] {
  const milliseconds = (read: (round: Round) => number) => median(all.map(read)).toFixed(0);
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  const batch = (rows: number) => median(all.map(({ runs }) => runs.batches[rows]?.[kind] ?? Number.NaN)).toFixed(1);
  const runs = kind === 'auto' ? '' : `${batch(1)} / ${batch(16)}`;
  const compile = kind === 'shared' ? milliseconds(({ compileMs }) => compileMs) : '';
  return [
    `${title}, ${megabytes(weightBytes)} MB`,
    kind,
    compile,
    milliseconds((round) => firstLoadMs(round, kind)),
    milliseconds((round) => furtherLoadMs(round, kind)),
    Array.from({ length: MAX_REPLICAS }, (_, index) =>
      megabytes(median(all.map(({ loads }) => loads[kind][index]?.bytes ?? Number.NaN))),
    ).join(' / '),
    megabytes(median(all.map((round) => bytesPerReplica(round, kind)))),
    megabytes(median(all.map((round) => threadBytes(round, kind)))),
    kind === 'shared' ? wideMegabytes(all) : '',
    runs,
    all.every(({ runs }) => runs.same) ? 'the same' : 'DIFFERENT',
  ];
}

const folder = mkdtempSync(join(tmpdir(), 'infermux-memory-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const models = writeWeightyModels(folder);
const measured = new Map<WeightyModel, Round[]>(models.map((model) => [model, []]));
for (let round = 0; round < ROUNDS; round += 1) {
  for (const model of models) {
    process.stderr.write(`${model.title}: round ${round + 1} of ${ROUNDS}\n`);
    measured.get(model)?.push(measure(model, join(folder, 'store'), model === models[0]));
  }
}

const PICTURE_WAYS = ['run', 'transfer', 'allocate'] as const;
const picture = writePictureModels(folder).find(({ id }) => id === 'mean-640') as BenchModel;
const pictures = PICTURE_WAYS.map((way): Goal => {
  process.stderr.write(`${picture.title}, ${way}\n`);
  const values = Array.from({ length: ROUNDS }, () => {
    const [few, many] = runCase<readonly [number, number]>('pictures', picture.path, way, JSON.stringify(picture.dims));
    return many / few;
  });
  const what = `${picture.title}, ${way}: resident memory after 10,000 requests, relative to that after 100`;
  return { what, values, unit: '×', limit: 1.05, aim: 1.05, atMost: true };
});

const [first] = models as [WeightyModel];
const judged = [...goalsOf(first, measured.get(first) ?? []), ...pictures].map(judge);
const table = goalTable(judged);
const head = [
  ...['model', 'weights', 'first load ever, ms', 'first load, ms', 'further load, ms'],
  ...[
    'private MB with 1 / 2 / 3 / 4 replicas',
    'MB per further replica',
    'of which: the thread',
    'MB per wide session',
    'run ms, batch 1 / 16',
    'outputs, compared with private',
  ],
];
const details = markdown(
  head,
  [...measured].flatMap(([model, all]) => KINDS.map((kind) => lineOf(model, all, kind))),
);
process.stdout.write(`${details}\n\n${table}\n`);
const method = `${ROUNDS} rounds, medians; each case in a process of its own; private memory by /proc/self/smaps_rollup, when each replica has run at batch 1`;
writeFileSync(
  new URL('../results/memory.json', import.meta.url),
  `${JSON.stringify({ machine, method, goals: judged, rounds: [...measured.values()] }, undefined, 2)}\n`,
);
writeInto('bench:memory', `${place}. ${method}.\n\n${details}\n\n${table}`, 'docs/shared-weights.md');
if (![...measured.values()].flat().every(({ runs }) => runs.same)) process.exitCode = 1;
