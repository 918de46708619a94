/**
 * `npm run bench:cluster`: nodes behind a real HAProxy, at full size. Prints medians of the rounds. `--rounds N` runs N
 * rounds instead of five; `--only NAME` measures one part: affinity, moves, restarts, losses, slow, overhead, membership,
 * survival, throughput; `--jobs N` sends N jobs instead of 100,000. Needs haproxy, nats-server, h2load and taskset (Debian's
 * haproxy, nats-server, nghttp2-client and util-linux), and the right to make network namespaces.
 */
import { parseArgs } from 'node:util';
import { median } from '../load/measurements.js';
import { type Goal, goalTable, judge, markdown, place, writeInto } from '../report.js';
import { watchStolenTime } from '../stolen-time.js';
import { affinity, moves } from './affinity.js';
import { cutOff, frozen, killed, type LossOutcome, rollingRestart } from './faults.js';
import { jobThroughput, survival } from './jobs.js';
import { membership } from './membership.js';
import { overhead, ownCores, SHARED_CORES } from './overhead.js';
import { slowNode } from './slow.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string' }, only: { type: 'string' }, jobs: { type: 'string' } },
});
const JOBS = Number(values.jobs ?? 100_000);
const ROUNDS = Number(values.rounds ?? 5);
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be an integer, got ${values.rounds}`);
const isWanted = (part: string) => values.only === undefined || values.only === part;
const stolenTime = watchStolenTime();
const goals: Goal[] = [];
const details: string[] = [];
const goal = (
  what: string,
  each: readonly number[],
  unit: Goal['unit'],
  limit: number,
  atMost = false,
  bound?: number,
) => goals.push({ what, values: each, unit, limit, aim: limit, atMost, ...(bound === undefined ? {} : { bound }) });

/** What must never happen, in no round. */
const never = (what: string, counts: readonly number[], unit: Goal['unit'] = 'times') =>
  goal(what, [Math.max(...counts)], unit, 0, true);

async function each<T>(run: () => Promise<T>): Promise<T[]> {
  const outcomes: T[] = [];
  for (let round = 0; round < ROUNDS; round += 1) outcomes.push(await run());
  return outcomes;
}

if (isWanted('affinity')) {
  const rows: string[][] = [];
  for (const [models, exponent] of [
    [200, 1],
    [200, 2],
    [24, 1],
  ] as const) {
    const setting = { nodes: 4, models, sessions: 8, exponent, callers: 8, requests: 3_000 };
    const outcomes = await each(() => affinity(setting));
    const title = `${models} models, Zipf ${exponent}`;
    const loads = (name: keyof (typeof outcomes)[number]) => median(outcomes.map((outcome) => outcome[name].loads));
    goal(
      `${title}: hit rate, relative to one node with 32 sessions`,
      outcomes.map(({ hashed, alone }) => hashed.hitRate / alone.hitRate),
      '×',
      0.9,
    );
    goal(
      `${title}: loads, relative to round robin`,
      ...([outcomes.map(({ hashed, roundRobin }) => hashed.loads / roundRobin.loads), '×', 0.25, true] as const),
      // What one node with all the sessions needs, nobody can be below.
      loads('alone') / loads('roundRobin'),
    );
    rows.push([title, ...(['roundRobin', 'hashed', 'alone'] as const).map((name) => loads(name).toFixed(0))]);
  }
  details.push(
    markdown(['loads per 1,000 requests', 'round robin', 'generated configuration', 'one node, 32 sessions'], rows),
  );
}
if (isWanted('moves')) {
  const outcomes = await each(() => moves(4, 200));
  goal(
    'a fifth node is added: share of the models that move to it, relative to 1/5',
    outcomes.map(({ moved }) => moved * 5),
    '×',
    1.3,
    true,
  );
  goal(
    '… share of the models that move between the other nodes',
    outcomes.map(({ toOthers }) => toOthers),
    '×',
    0,
    true,
  );
}
if (isWanted('restarts')) {
  const outcomes = await each(() => rollingRestart(1));
  never(
    'rolling restart: failed requests, REST',
    outcomes.map(({ rest }) => rest.failed),
  );
  never(
    'rolling restart: failed requests, gRPC',
    outcomes.map(({ grpc }) => grpc.failed),
  );
}
if (isWanted('losses')) {
  const losses: readonly (readonly [string, () => Promise<LossOutcome>])[] = [
    ['a node is killed (SIGKILL)', () => killed(10)],
    ['a node is cut off from the network', () => cutOff(10)],
    ['a node is stopped (SIGSTOP)', () => frozen(10)],
  ];
  const brokenOff: string[] = [];
  for (const [title, lose] of losses) {
    const outcomes = await each(lose);
    never(
      `${title}: failed requests, REST`,
      outcomes.map(({ rest }) => rest.failed),
    );
    never(
      `${title}: failed requests, gRPC, whose answer had not begun`,
      outcomes.map(({ grpc }) => grpc.failed),
    );
    brokenOff.push(`${outcomes.reduce((sum, outcome) => sum + outcome.brokenOff, 0)} (${title})`);
    const after = outcomes.map(({ p99Ms }) => p99Ms.after / p99Ms.before);
    goal(`${title}: p99 from 3 s later on, relative to before`, after, '×', 1.5, true);
  }
  details.push(
    `gRPC calls that broke off after their answer had begun, in all rounds: ${brokenOff.join(', ')}. HAProxy cannot repeat these.`,
  );
}
if (isWanted('slow')) {
  const outcomes = await each(() => slowNode(6));
  goal(
    'one of four nodes gets only a tenth of its CPU time: p99, relative to four healthy nodes',
    outcomes.map(({ healthy, slow }) => slow.p99Ms / healthy.p99Ms),
    '×',
    1.5,
    true,
  );
  const shares = outcomes.map(({ shareOfSlow }) => shareOfSlow);
  details.push(
    `The node with a tenth of its CPU time answered ${(100 * median(shares)).toFixed(1)} % of the requests.`,
  );
}
if (isWanted('overhead')) {
  const OVERHEAD_ROUNDS = 10 * ROUNDS;
  const rows: string[][] = [];
  const own = ownCores();
  for (const [where, cores] of [
    ['a core of its own for the node', own],
    ['all on the same two cores', SHARED_CORES],
  ] as const) {
    const { alone, bare, generated } = await overhead(OVERHEAD_ROUNDS, cores);
    const shares = (rates: readonly number[]) => rates.map((rate, index) => rate / (alone[index] as number));
    goal(`throughput behind HAProxy, JSON, relative to a node without it (${where})`, shares(generated), '×', 0.8);
    const shown = [bare, generated].map((rates) => `${median(shares(rates)).toFixed(2)}×`);
    rows.push([where, median(alone).toFixed(0), ...shown]);
  }
  details.push(
    `The throughput is that of ${OVERHEAD_ROUNDS} turns of a quarter of a second each.`,
    markdown(
      ['JSON', 'node alone, requests/s', 'bare HAProxy, relative to it', 'generated configuration, relative to it'],
      rows,
    ),
  );
}

if (isWanted('membership')) {
  const outcomes = await membership(ROUNDS);
  goal(
    'a node joins by NATS: until it has its first request',
    outcomes.map(({ joinMs }) => joinMs / 1_000),
    's',
    1,
    true,
  );
  goal(
    'a node leaves by NATS: until it has its last request',
    outcomes.map(({ leaveMs }) => leaveMs / 1_000),
    's',
    1,
    true,
  );
  never(
    '… failed requests meanwhile',
    outcomes.map(({ failed }) => failed),
  );
}
if (isWanted('survival')) {
  const { jobs, results, dead, wrong, doubled, kills, seconds } = await survival(JOBS);
  never(`${jobs} jobs: lost, or in the dead-letter stream`, [jobs - results + dead]);
  never('… results that are wrong or stored twice', [wrong + doubled]);
  details.push(
    `${jobs} jobs took ${seconds.toFixed(0)} s. In this time a worker was killed every two seconds (${kills} times), and nats-server twice.`,
  );
}
if (isWanted('throughput')) {
  const JOB_ROUNDS = 3 * ROUNDS;
  const rows: string[][] = [];
  for (const [rowsOfJob, isReferring, count] of [
    [1_024, true, 400],
    [1_024, false, 400],
    [64, false, 2_000],
    [1, false, 8_000],
  ] as const) {
    const { direct, jobs } = await jobThroughput(JOB_ROUNDS, count, rowsOfJob, isReferring);
    const title = `jobs of ${rowsOfJob} ${rowsOfJob === 1 ? 'row' : 'rows'}, ${isReferring ? 'in files' : 'in messages'}`;
    // It is for files that the goal is: large tensors go by reference.
    if (isReferring)
      goal(
        `${title}, digits-cnn: relative to calls to an engine`,
        jobs.map((rate, round) => rate / (direct[round] as number)),
        '×',
        0.5,
      );
    rows.push([title, ...[direct, jobs].map((rates) => (rowsOfJob * median(rates)).toFixed(0))]);
  }
  details.push(markdown(['rows per second, digits-cnn', 'engine called directly', 'by jobs'], rows));
}

const judged = goals.map(judge);
const stolen = stolenTime();
const how = `${place}. ${ROUNDS} rounds, medians${stolen === undefined ? '' : `; ${stolen}`}.`;
const text = [how, goalTable(judged), ...details].join('\n\n');
process.stdout.write(`${text}\n`);
if (values.only === undefined) writeInto('bench:cluster', text, 'docs/scaling-out.md');
process.exit(judged.every(({ isReached }) => isReached) ? 0 : 1);
