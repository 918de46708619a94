/**
 * `npm run bench:observability`: measures what it costs to be watched. One engine, 256 callers of a small model; what
 * listens changes from turn to turn, so that each is measured beside the others. Prints medians of the rounds.
 * `--rounds N` runs N rounds instead of nine.
 */
import { parseArgs } from 'node:util';
import { ProxyTracerProvider, type TracerProvider, trace } from '@opentelemetry/api';
import { BasicTracerProvider, SamplingDecision } from '@opentelemetry/sdk-trace-base';
import { closedLoop } from '../../dist/cli/bench/load.js';
import { isInferTraced } from '../../dist/engine/requests/traced-request.js';
import { createEngine } from '../../dist/index.js';
import { runChannel } from '../../dist/observability/traces/channels.js';
import { InfermuxInstrumentation } from '../../dist/opentelemetry/index.js';
import { median } from '../load/measurements.js';
import { type Goal, goalTable, judge, place, writeInto } from '../report.js';
import { measureConsole } from './console.js';

const { rounds = '9' } = parseArgs({ options: { rounds: { type: 'string' } } }).values;
const ROUNDS = Number(rounds);
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be a positive integer, got ${rounds}`);

const CALLERS = 256;
const DURATION = { warmUpMs: 400, milliseconds: 1_000 };
const models = new URL('../../native-models', import.meta.url);
// A provider whose tracers do nothing.
trace.setGlobalTracerProvider({ getTracer: (...of) => new ProxyTracerProvider().getTracer(...of) });
const nobody = { shouldSample: () => ({ decision: SamplingDecision.NOT_RECORD }), toString: () => 'nobody' };

/** Who listens, and the provider of its tracers. */
const LISTENERS: Readonly<Record<string, TracerProvider | undefined>> = {
  nobody: undefined,
  'no-op provider': trace.getTracerProvider(),
  'no sample': new BasicTracerProvider({ sampler: nobody }),
  'every request': new BasicTracerProvider(),
};

/** Those that a goal compares differ by less than two turns of the same one, so that they have several in a round. */
const COMPARED = ['nobody', 'no-op provider'];
const TURNS = 5;

const engine = await createEngine({ models, replicas: 2 });
const instrumentation = new InfermuxInstrumentation();
const images = Array.from({ length: CALLERS }, (_, caller) => new Float32Array(64).fill(caller % 17));
const call = (caller: number) =>
  engine.run('digits-mlp', { image: { dims: [1, 64], data: images[caller] as Float32Array } });

async function throughputWith(provider: TracerProvider | undefined): Promise<number> {
  if (provider !== undefined) {
    instrumentation.setTracerProvider(provider);
    instrumentation.enable();
  }
  try {
    return (await closedLoop(call, { callers: CALLERS, ...DURATION })).throughput;
  } finally {
    instrumentation.disable();
  }
}

/** Nanoseconds that it takes to see that nobody listens: what each request and each message to a replica asks. */
function lookNs(): number {
  const times = 2_000_000;
  const loop = () => {
    let heard = 0;
    const startedAt = performance.now();
    for (let index = 0; index < times; index += 1) if (isInferTraced() || runChannel.hasSubscribers) heard += 1;
    if (heard > 0) throw new Error('somebody listens');
    return (1e6 * (performance.now() - startedAt)) / times;
  };
  return median(Array.from({ length: 9 }, loop));
}

const figures = new Map(Object.keys(LISTENERS).map((name) => [name, [] as number[]]));
await throughputWith(undefined);
// Before anybody listens: later V8 knows the channels as objects of two kinds.
const looks = Array.from({ length: ROUNDS }, lookNs);
for (let round = 0; round < ROUNDS; round += 1) {
  const turns = new Map(Object.keys(LISTENERS).map((name) => [name, [] as number[]]));
  for (let turn = 0; turn < TURNS; turn += 1) {
    for (const [name, provider] of Object.entries(LISTENERS))
      if (turn === 0 || COMPARED.includes(name)) turns.get(name)?.push(await throughputWith(provider));
  }
  for (const [name, throughputs] of turns) figures.get(name)?.push(median(throughputs));
}
await engine.close();
const { percent, frames } = await measureConsole(models, ROUNDS);

const quiet = figures.get('nobody') ?? [];
const against = (name: string) => (figures.get(name) ?? []).map((value, round) => value / (quiet[round] ?? Number.NaN));
const goals: Goal[] = [
  {
    what: 'time for checking whether anybody listens, as a share of a request',
    values: looks.map((ns, round) => 100 * ((ns * (quiet[round] ?? 0)) / 1e9)),
    ...{ unit: '%', limit: 1, aim: 0.5, atMost: true },
  },
  {
    what: 'throughput with the instrumentation and a registered no-op provider, relative to that without the instrumentation',
    values: against('no-op provider'),
    ...{ unit: '×', limit: 0.97, aim: 1 },
  },
  {
    what: 'CPU share of the calling thread for an open console, 12 models in each of 8 replicas',
    values: percent,
    ...{ unit: '%', limit: 1, aim: 0.5, atMost: true },
  },
  ...(frames.length === 0
    ? []
    : [
        {
          what: 'frames per second in a browser',
          values: frames,
          unit: 'frames',
          limit: 59,
          aim: 60,
        } as const,
      ]),
];
const judged = goals.map(judge);
const table = [
  place,
  '',
  `digits-mlp, ${CALLERS} callers, ${ROUNDS} rounds, ${Math.round(median(quiet)).toLocaleString('en')} requests/s while nobody listens. Not goals: with a provider that samples no request ${median(against('no sample')).toFixed(2)}×, with one that records the spans of every request, and exports none, ${median(against('every request')).toFixed(2)}×.`,
  '',
  goalTable(judged),
].join('\n');
process.stdout.write(`${table}\n`);
if (ROUNDS >= 9) writeInto('bench:observability', table, 'bench/README.md');
