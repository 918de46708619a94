/**
 * `npm run bench:finder`: measures what models cost that come from a server while they are downloaded: downloads of each,
 * requests for the others, memory. Prints medians of the rounds. `--rounds N` runs N rounds instead of five.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { median } from '../load/measurements.js';
import { type Goal, goalTable, judge, markdown, place, writeInto } from '../report.js';

const { rounds = '5' } = parseArgs({ options: { rounds: { type: 'string' } } }).values;
const ROUNDS = Number(rounds);
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be a positive integer, got ${rounds}`);

const LATENCY_MS = 5;
const MODELS = 10_000;
const PER_SECOND = 100;
const LARGE_MODELS = 20;
const LARGE_BYTES = 50_000_000;
const TRAFFIC = { kind: 'traffic', models: MODELS, perSecond: PER_SECOND, warmUpSeconds: 3, seconds: 40 };

const run = promisify(execFile);
const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));

interface Times {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
}

/** What came of requests at random times, for models that were loaded when they came, and for others. */
interface Traffic {
  readonly warm: Times;
  readonly cold: Times;
}

interface Memory {
  readonly bytes: number;
  readonly downloadMs: number;
}

/** A server of models with so many bytes beside what they need. */
async function startServer(paddingBytes: number) {
  const server = spawn(process.execPath, [pathOf('server.mjs'), String(LATENCY_MS), String(paddingBytes)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [port] = (await once(server.stdout, 'data')) as [Buffer];
  const base = `http://127.0.0.1:${Number(port)}`;
  /** How often each model was downloaded since the last call. */
  const downloads = async () => (await (await fetch(`${base}/downloads`)).json()) as number[];
  return { base, padding: paddingBytes, downloads, stop: () => server.kill() };
}

async function runCase<T>(settings: object): Promise<T> {
  return JSON.parse((await run(process.execPath, [pathOf('case.mjs'), JSON.stringify(settings)])).stdout) as T;
}

const directory = mkdtempSync(join(tmpdir(), 'infermux-bench-'));
const [small, large] = [await startServer(0), await startServer(LARGE_BYTES)];
const measured: { meanwhile: Traffic; before: Traffic; downloads: number[]; memory: Memory }[] = [];
try {
  for (let round = 0; round < ROUNDS; round += 1) {
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
    const { base, padding } = small;
    // A new one: for a minute after many files were removed, ext4 without a journal takes long to create others.
    const cache = join(directory, String(round));
    const traffic = { ...TRAFFIC, base, padding, cache, seed: 17 + round };
    const meanwhile = await runCase<Traffic>(traffic);
    const downloads = await small.downloads();
    // The same requests, and all that they want is in the cache.
    const before = await runCase<Traffic>(traffic);
    if ((await small.downloads()).length > 0) throw new Error('models were downloaded that the cache has');
    const heavy = join(directory, 'large');
    const wanted = { kind: 'memory', base: large.base, padding: LARGE_BYTES, cache: heavy, models: LARGE_MODELS };
    measured.push({ meanwhile, before, downloads, memory: await runCase<Memory>(wanted) });
    rmSync(heavy, { recursive: true });
  }
} finally {
  small.stop();
  large.stop();
  rmSync(directory, { recursive: true });
}

type Round = (typeof measured)[number];
const goal = (what: string, read: (round: Round) => number, unit: Goal['unit'], limit: number): Goal => ({
  ...{ what, values: measured.map(read), unit, limit, aim: limit, atMost: true },
});
const goals = [
  goal(
    `${MODELS} models requested by Zipf's law, two replicas with 50 sessions each: downloads of the model that was downloaded most often`,
    ({ downloads }) => Math.max(...downloads),
    'times',
    1,
  ),
  goal(
    'p99 of requests for loaded models while others are downloaded, relative to p99 when the others come from the cache',
    ({ meanwhile, before }) => meanwhile.warm.p99 / before.warm.p99,
    '×',
    1.2,
  ),
  goal(
    `additional resident memory while ${LARGE_MODELS} models of ${LARGE_BYTES / 1e6} MB are downloaded`,
    ({ memory }) => memory.bytes / 1e6,
    'MB',
    30,
  ),
].map(judge);

const milliseconds = (read: (round: Round) => number) => `${median(measured.map(read)).toFixed(1)} ms`;
const row = (what: string, read: (traffic: Traffic) => Times) => [
  what,
  ...[({ meanwhile }: Round) => read(meanwhile), ({ before }: Round) => read(before)].flatMap((times) => [
    milliseconds((round) => times(round).p50),
    milliseconds((round) => times(round).p99),
  ]),
];
const details = markdown(
  [`${PER_SECOND} requests/s`, 'downloading: p50', 'p99', 'from the cache: p50', 'p99'],
  [row('a model that is loaded', ({ warm }) => warm), row('another model', ({ cold }) => cold)],
);
const downloaded = median(measured.map(({ downloads }) => downloads.length));
const rate = median(measured.map(({ memory }) => (LARGE_MODELS * LARGE_BYTES) / 1e3 / memory.downloadMs));
const summary = `The benchmark downloaded ${downloaded} models in ${TRAFFIC.warmUpSeconds + TRAFFIC.seconds} s, and those of ${LARGE_BYTES / 1e6} MB at ${rate.toFixed(0)} MB/s.`;
const table = goalTable(goals);
process.stdout.write(`${details}\n\n${summary}\n\n${table}\n`);
writeInto(
  'bench:finder',
  `${place}. ${ROUNDS} rounds, medians.\n\n${details}\n\n${summary}\n\n${table}`,
  'docs/finder.md',
);
