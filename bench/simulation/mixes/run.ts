/**
 * `npm run simulate:mixes`: runs models of different kinds on the cores of one machine, with wide sessions and an express
 * replica as they come by themselves, beside what a user could fix by hand. The results are the same every time. Writes
 * `results/mixes.*`; `--quick` runs one seed and writes nothing, `--only TEXT` runs the mixes with that text in their
 * name.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { goalTable, judge, markdown, writeInto } from '../../report.js';
import { runCases } from '../run-cases.js';
import type { MixCase } from './case.js';
import { MIXES, type Mix } from './mix.js';
import type { MixOutcome } from './mix-outcome.js';
import { type MixResult, MixResults, type MixRow, mixGoals, serversOf } from './mix-results.js';
import { SERVERS } from './mix-simulation.js';

const { quick, only } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string' } },
}).values;
const chosen = MIXES.filter(({ name }) => only === undefined || name.includes(only));
if (chosen.length === 0) throw new Error(`no mix has ${only} in its name: ${MIXES.map(({ name }) => name).join('; ')}`);

const servers = chosen.flatMap((mix) => serversOf(mix).map((server) => ({ mix, server })));
const seedsOf = ({ seeds }: Mix) => Array.from({ length: quick ? 1 : seeds }, (_, index) => 1 + index);
const cases = servers.flatMap((each): MixCase[] => seedsOf(each.mix).map((seed) => ({ ...each, seed })));
const outcomes = [...(await runCases<MixCase, MixOutcome>(new URL('./case.ts', import.meta.url), cases))];
const results = new MixResults(
  servers.map((each): MixResult => ({ ...each, outcomes: outcomes.splice(0, seedsOf(each.mix).length) })),
);

const number = (value: number) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);

function timesOf(row: MixRow, server: (typeof SERVERS)[number]): string {
  const [mean, p99] = [row.of(server, 'meanMs'), row.of(server, 'p99Ms')];
  return mean === undefined || p99 === undefined ? '' : `${number(mean)} / ${number(p99)}`;
}

function times(): string {
  const rows = results.mixes.flatMap((mix) =>
    results
      .rowsOf(mix)
      .map((row) => [
        ...[mix.name, mix.streams.length > 1 ? row.stream : '', row.phase === 'steady' ? '' : row.phase],
        ...SERVERS.map((server) => timesOf(row, server)),
        `${number(row.toBest('meanMs'))} / ${number(row.toBest('p99Ms'))}`,
      ]),
  );
  return markdown(['', 'model', 'phase', ...SERVERS, 'default to the best'], rows);
}

const COMERS = ['narrow', 'wide', 'express'] as const;

function comings(): string {
  const rows = results.mixes.map((mix) => [
    mix.name,
    ...COMERS.map(
      (what) => `${number(results.came(mix, 'default', what))} (${number(results.swings(mix, 'default', what))})`,
    ),
  ]);
  return markdown(['', 'narrow sessions', 'wide sessions', 'express replicas'], rows);
}

const judged = mixGoals(results).map(judge);
const text = [
  '## Mean and 99th percentile, in milliseconds',
  times(),
  '## What came after the warm-up with the default; in brackets, how often the one that came most often did, in ten loads',
  comings(),
  '## Goals',
  goalTable(judged),
].join('\n\n');
process.stdout.write(`${text}\n`);

if (!quick && only === undefined) {
  const folder = new URL('../../results/', import.meta.url);
  const data = { goals: judged, results: results.all.map(({ mix, ...result }) => ({ mix: mix.name, ...result })) };
  writeFileSync(new URL('mixes.json', folder), `${JSON.stringify(data, undefined, 1)}\n`);
  writeFileSync(new URL('mixes.md', folder), `# npm run simulate:mixes\n\n${text}\n`);
  writeInto('simulate:mixes', `${times()}\n\n${goalTable(judged)}`, 'bench/README.md');
}
