/**
 * `npm run bench:handlers`: measures what handlers answer in a second, one request at a time, several at once and in
 * batches, and how quickly streams go. Prints medians of the rounds. `--rounds N` runs N rounds instead of five.
 */
import { parseArgs } from 'node:util';
import { createEngine, type DeploymentOptions, type InferenceEngine } from '../../dist/index.js';
import { median } from '../load/measurements.js';
import { type Goal, goalTable, judge, markdown, place, writeInto } from '../report.js';

const { rounds = '5' } = parseArgs({ options: { rounds: { type: 'string' } } }).values;
const ROUNDS = Number(rounds);
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be a positive integer, got ${rounds}`);

const CALLERS = 64;
const WARM_UP_MS = 1_000;
const MEASURED_MS = 1_000;
const WAIT_MS = 20;
const WAITING = 32;
const ITEMS = 10_000;
/** A reader that takes one item and then waits so long. */
const SLOW_READER_MS = 20;

const handler = new URL('handler.mjs', import.meta.url);
const deployments: Readonly<Record<string, DeploymentOptions>> = {
  waiting: { handler, maxOngoingRequests: WAITING },
  single: { handler, maxOngoingRequests: 1 },
  several: { handler },
  many: { handler, maxOngoingRequests: WAITING },
  batches: { handler: new URL('batch-handler.mjs', import.meta.url) },
};
const image = new Float32Array(64).fill(3);

/** Answers per second of a deployment to callers that ask as soon as they are answered. */
async function answersPerSecond(engine: InferenceEngine, target: string, request: unknown): Promise<number> {
  let answered = 0;
  let isOver = false;
  const caller = async () => {
    while (!isOver) {
      await engine.run<unknown>(target, request);
      answered += 1;
    }
  };
  const callers = Array.from({ length: CALLERS }, caller);
  const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await after(WARM_UP_MS);
  const [before, startedAt] = [answered, performance.now()];
  await after(MEASURED_MS);
  const rate = (1_000 * (answered - before)) / (performance.now() - startedAt);
  isOver = true;
  await Promise.all(callers);
  return rate;
}

async function itemsPerSecond(engine: InferenceEngine): Promise<number> {
  const startedAt = performance.now();
  let items = 0;
  for await (const _ of engine.stream('several', { items: ITEMS })) items += 1;
  return (1_000 * items) / (performance.now() - startedAt);
}

/** Items per second of a stream; another one before it warms the code up. */
async function secondStream(engine: InferenceEngine): Promise<number> {
  await itemsPerSecond(engine);
  return itemsPerSecond(engine);
}

/** Most items that a handler was ahead of a slow reader. */
async function itemsAhead(engine: InferenceEngine): Promise<number> {
  const stream = engine.stream('several', { items: ITEMS });
  let most = 0;
  for (let taken = 1; taken <= 100; taken += 1) {
    await stream.next();
    if (taken % 10 !== 0) continue;
    await new Promise((resolve) => setTimeout(resolve, SLOW_READER_MS));
    most = Math.max(most, (await engine.run<number>('several', { items: 0 })) - taken);
  }
  await stream.return?.();
  return most;
}

interface Round {
  readonly waiting: number;
  readonly single: number;
  readonly several: number;
  readonly many: number;
  readonly batches: number;
  readonly items: number;
  readonly ahead: number;
}

const models = new URL('../../native-models', import.meta.url);
const measured: Round[] = [];
for (let round = 0; round < ROUNDS; round += 1) {
  process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
  await using engine = await createEngine({ models, replicas: 0, deployments });
  measured.push({
    waiting: await answersPerSecond(engine, 'waiting', { image, waitMs: WAIT_MS }),
    single: await answersPerSecond(engine, 'single', { image }),
    several: await answersPerSecond(engine, 'several', { image }),
    many: await answersPerSecond(engine, 'many', { image }),
    batches: await answersPerSecond(engine, 'batches', { image }),
    items: await secondStream(engine),
    ahead: await itemsAhead(engine),
  });
}

const goal = (
  what: string,
  read: (round: Round) => number,
  unit: Goal['unit'],
  limit: number,
  atMost = false,
): Goal => ({
  ...{ what, values: measured.map(read), unit, limit, aim: limit, atMost },
});
const ideal = (1_000 * WAITING) / WAIT_MS;
const goals = [
  goal(
    `a handler that waits ${WAIT_MS} ms and then runs digits-mlp, ${WAITING} at once, relative to the ideal ${ideal} requests/s`,
    ({ waiting }) => waiting / ideal,
    '×',
    0.85,
  ),
  goal(
    'a handler that runs digits-mlp: five at once, relative to one at a time',
    ({ several, single }) => several / single,
    '×',
    0.95,
  ),
  goal('the same handler: in batches, relative to five at once', ({ batches, several }) => batches / several, '×', 3),
  goal(`stream of ${ITEMS} small items`, ({ items }) => items, 'items/s', 100_000),
  goal('items ahead of a slow reader', ({ ahead }) => ahead, 'items', 64, true),
].map(judge);
const rate = (read: (round: Round) => number) => median(measured.map(read)).toFixed(0);
const details = markdown(
  ['digits-mlp in a handler, one replica, 64 callers', 'requests/s'],
  [
    ['one at a time (`maxOngoingRequests: 1`)', rate(({ single }) => single)],
    ['five at once (the default)', rate(({ several }) => several)],
    [`${WAITING} at once`, rate(({ many }) => many)],
    ['in batches (`handleBatch`)', rate(({ batches }) => batches)],
    [`with a wait of ${WAIT_MS} ms before the run, ${WAITING} at once`, rate(({ waiting }) => waiting)],
  ],
);
const table = goalTable(goals);
process.stdout.write(`${details}\n\n${table}\n`);
writeInto('bench:handlers', `${place}. ${ROUNDS} rounds, medians.\n\n${details}\n\n${table}`, 'docs/handlers.md');
