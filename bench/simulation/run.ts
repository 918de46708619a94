/**
 * `npm run simulate`: runs every router and both cache policies in many settings, with simulated replicas on a virtual
 * clock, beside two yardsticks. The results are the same every time: all random numbers come from seeds. Writes
 * `results/simulation.*`; `--quick` runs a fifth of the seeds and writes nothing, `--only TEXT` runs the settings with
 * that text in their name.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { barChart } from '../../dist/cli/terminal/bar-chart.js';
import type { RequestRouter, RouterName } from '../../dist/contracts/request-router.js';
import { documentedRouter } from '../../test/support/documented-router.js';
import { type Goal, goalTable, type JudgedGoal, judge, markdown, writeInto } from '../report.js';
import { simulateBurst } from './burst.js';
import type { Case } from './case.js';
import { CONTENDERS, COST_AWARE, DEFAULT, goals, isSettled, meanOf, nameOf, type Result, Results } from './goals.js';
import type { Outcome } from './outcome.js';
import { runCases } from './run-cases.js';
import { LARGEST, SETTINGS, type Setting } from './setting.js';

const { quick, only } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } },
}).values;
const chosen = SETTINGS.filter(({ name }) => only === undefined || name.includes(only));
if (chosen.length === 0)
  throw new Error(`no setting has ${only} in its name: ${SETTINGS.map(({ name }) => name).join('; ')}`);

/** Returns the seeds of a setting; with `--quick` a fifth of them. */
const seedsOf = ({ seeds }: Setting) =>
  Array.from({ length: quick ? Math.ceil(seeds / 5) : seeds }, (_, index) => 1 + index);

const CASE = new URL('./case.ts', import.meta.url);

/** Simulates all cases. */
async function simulateAll(settings: readonly Setting[]): Promise<Results> {
  const results = settings.flatMap((setting) => CONTENDERS.map((contender) => ({ setting, contender })));
  const cases = results.flatMap((each): Case[] => seedsOf(each.setting).map((seed) => ({ ...each, seed })));
  const outcomes = [...(await runCases<Case, Outcome>(CASE, cases))];
  return new Results(
    results.map((each): Result => ({ ...each, outcomes: outcomes.splice(0, seedsOf(each.setting).length) })),
  );
}

const number = (value: number) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);

/** Returns a table whose rows are settings and whose columns are contenders. */
function table(results: Results, cell: (result: Result) => string): string {
  const rows = results.settings.map((setting) => [
    setting.name,
    ...CONTENDERS.map((contender) => cell(results.of(setting, contender))),
  ]);
  return markdown(['', ...CONTENDERS.map(nameOf)], rows);
}

function timesOf(result: Result): string {
  const overrun = result.outcomes.filter(({ isOverrun }) => isOverrun).length;
  if (overrun > 0) return `limit (${overrun})`;
  if (!isSettled(result)) return 'grows';
  const lost = result.outcomes.reduce((sum, outcome) => sum + outcome.lost, 0);
  return `${number(meanOf(result, 'mean'))} / ${number(meanOf(result, 'p99'))}${lost === 0 ? '' : `, ${lost} lost`}`;
}

function loadsOf(result: Result): string {
  return isSettled(result) ? `${number(meanOf(result, 'loads'))} / ${number(meanOf(result, 'loadTime'))}` : '';
}

/** Returns which routers are within a tenth of the best, and how far the default is from the best. */
function verdicts(results: Results): string {
  const rows = results.settings.map((setting) => {
    const settled = results.settledRouters(setting);
    if (settled.length === 0) return [setting.name, 'none settles', '', ''];
    const best = results.best(setting, 'mean');
    const good = settled
      .filter((result) => meanOf(result, 'mean') <= 1.1 * best)
      .map(({ contender }) => nameOf(contender));
    const [own, costAware] = [results.of(setting, DEFAULT), results.of(setting, COST_AWARE)];
    const saved = isSettled(costAware) && meanOf(costAware, 'mean') < 0.9 * meanOf(own, 'mean');
    return [setting.name, good.join(', '), number(meanOf(own, 'mean') / best), saved ? 'cost-aware' : 'either'];
  });
  return markdown(['', 'best routers, within a tenth', "the default's mean, relative to the best", 'eviction'], rows);
}

/** Measures the seconds of the largest simulation, in a thread of its own. */
async function measureLargest(): Promise<number> {
  const startedAt = performance.now();
  const [outcome] = await runCases<Case, Outcome>(CASE, [{ setting: LARGEST, contender: DEFAULT, seed: 1 }], 1);
  const seconds = (performance.now() - startedAt) / 1_000;
  if (outcome?.isSettled !== true) throw new Error(`it does not settle: ${LARGEST.name}`);
  return seconds;
}

/** Routers that place requests by what models replicas have; the last two are a user's. */
async function burstRouters(): Promise<(readonly [name: string, router: RouterName | RequestRouter])[]> {
  const own = await documentedRouter();
  const itself: RequestRouter = { spill: 'router', chooseReplicas: (...given) => own.chooseReplicas(...given) };
  const names = ['power-of-two-choices', 'least-loaded', 'expected-completion', 'throughput-aware'] as const;
  return [...names.map((name) => [name, name] as const), ['the documented one', own], [ITSELF, itself]];
}

const ITSELF = "the documented one, with spill: 'router'";
const bursts = (await burstRouters()).map(([name, router]) => ({ name, ...simulateBurst(router) }));
const burstTable = markdown(
  ['', 'copies', 'evictions'],
  bursts.map(({ name, copies, evictions }) => [name, String(copies), String(evictions)]),
);
/** The goals of the burst hold for every router that leaves spilling to the engine. */
const burstGoals = (['copies', 'evictions'] as const).map((what): Goal => {
  const values = bursts.filter(({ name }) => name !== ITSELF).map((burst) => burst[what]);
  return {
    ...{ what: `${what} in the burst, the most of ${values.length} routers`, values: [Math.max(...values)] },
    ...{ unit: 'sessions', limit: 2, aim: 2, atMost: true },
  };
});

const results = await simulateAll(chosen);
const tables = [
  '## Mean and 99th percentile, in services',
  '"limit (n)": in n seeds more requests waited than may; "grows": they took longer and longer; "lost": an error for an answer.',
  table(results, timesOf),
  '## Loads for a thousand requests, and their time for each request, in services',
  table(results, loadsOf),
  '## Which is best where',
  verdicts(results),
  '## A burst of 60 for a new model, on 4 replicas that are full: 2 sessions each, of 8 other models',
  burstTable,
].join('\n\n');
process.stdout.write(`${tables}\n`);

const judged: JudgedGoal[] = [];
if (only === undefined) {
  const time: Goal = {
    ...{ what: `a million requests, ${LARGEST.name}`, values: [await measureLargest()] },
    ...{ unit: 's', limit: 60, aim: 60, atMost: true },
  };
  judged.push(...[...goals(results), ...burstGoals, time].map(judge));
}
const text = judged.length === 0 ? tables : `${tables}\n\n## Goals\n\n${goalTable(judged)}`;
if (judged.length > 0) process.stdout.write(`\n## Goals\n\n${goalTable(judged)}\n`);

if (!quick && only === undefined) {
  const folder = new URL('../results/', import.meta.url);
  const data = { goals: judged, results: results.all };
  writeFileSync(new URL('simulation.json', folder), `${JSON.stringify(data, undefined, 1)}\n`);
  writeFileSync(new URL('simulation.md', folder), `# npm run simulate\n\n${text}\n`);
  const bars = results.all
    .filter(isSettled)
    .map((result) => ({ group: result.setting.name, label: nameOf(result.contender), value: meanOf(result, 'mean') }));
  writeFileSync(new URL('simulation.svg', folder), barChart('Mean time of a request', 'services', bars, 'own'));
  writeInto('simulate', `${verdicts(results)}\n\n${burstTable}\n\n${goalTable(judged)}`, 'bench/README.md');
}
