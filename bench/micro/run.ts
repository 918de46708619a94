/**
 * `npm run bench:micro`: measures the cost of one routing choice by the number of replicas. A choice is the router's
 * ranks and the walk through them to the replica with the shortest queue, over counters in shared memory, as in the
 * dispatcher.
 */
import { Bench } from 'tinybench';
import type { ModelState } from '../../dist/contracts/request-router.js';
import { QueueCounters } from '../../dist/protocol/queue-counters.js';
import { firstWithSlot } from '../../dist/routing/placement/first-with-slot.js';
import { type IndexedReplica, ReplicaIndex } from '../../dist/routing/placement/replicas/replica-index.js';
import { PowerOfTwoChoicesRouter } from '../../dist/routing/routers/by-model/power-of-two-choices-router.js';

const REPLICAS = [2, 8, 64, 1_024];
const CHOICES_PER_SAMPLE = 1_000;
const MOST_ONGOING = 2;
const LIMIT_MICROSECONDS = 2;
const LIMIT_GROWTH = 1.5;

interface Situation {
  readonly name: string;
  isWarm(position: number): boolean;
  ongoing(position: number): number;
  readonly waitedMs: number;
}

const SITUATIONS: readonly Situation[] = [
  { name: 'warm, some busy', isWarm: () => true, ongoing: (position) => position % 3, waitedMs: 0 },
  { name: 'warm, one has a slot', isWarm: () => true, ongoing: (position) => (position === 0 ? 1 : 2), waitedMs: 0 },
  { name: 'cold, some busy', isWarm: () => false, ongoing: (position) => position % 3, waitedMs: 0 },
  {
    name: 'spill past full ones',
    isWarm: (position) => position % 2 === 0,
    ongoing: (position) => (position % 2 === 0 ? 2 : 0),
    waitedMs: 50,
  },
];

class BenchReplica implements IndexedReplica {
  readonly deployment = 'default';
  readonly labels = {};
  readonly capacity = MOST_ONGOING;
  readonly freeModels = Number.POSITIVE_INFINITY;
  readonly expectedWorkMs = 0;
  readonly routingStats = { throughput: 0, runMs: 0, loadMs: 0 };
  readonly id: string;
  readonly models = new Map<string, ModelState>([['other', 'loaded']]);
  readonly freeBytes = Number.POSITIVE_INFINITY;
  readonly #counters;

  constructor(position: number, all: QueueCounters) {
    const line = all.take();
    if (line === undefined) throw new Error('too few lines');
    this.id = `replica-${position}`;
    this.#counters = line.counters;
  }

  get ongoing(): number {
    return this.#counters.ongoing;
  }

  isTrying(): boolean {
    return false;
  }

  give(requests: number): void {
    this.#counters.dispatchGiven(requests);
  }
}

function prepare(count: number, { isWarm, ongoing, waitedMs }: Situation): () => BenchReplica | undefined {
  const counters = new QueueCounters(count);
  const index = new ReplicaIndex<BenchReplica>();
  for (let position = 0; position < count; position += 1) {
    const replica = new BenchReplica(position, counters);
    if (isWarm(position)) replica.models.set('model', 'loaded');
    replica.give(ongoing(position));
    index.add(replica);
    index.setOccupancy(replica, { isIdle: ongoing(position) === 0, isFree: ongoing(position) < MOST_ONGOING });
  }
  const router = new PowerOfTwoChoicesRouter(Math.random);
  const request = {
    ...{ id: 0, model: 'model', modelKey: 'model', priority: 0, shardKey: undefined, labels: {}, waitedMs, queued: 1 },
    ...{ totalWaitedMs: waitedMs, expectedDrainMs: 0, modelBytes: 1, expectedRunMs: 1, expectedLoadMs: 10 },
  };
  return () => {
    const ranks = router.chooseReplicas(index, request) as Iterable<BenchReplica>[];
    return firstWithSlot(ranks, (replica) => replica.ongoing < MOST_ONGOING);
  };
}

async function measure(situation: Situation): Promise<Map<number, number>> {
  const bench = new Bench({ time: 300, warmupTime: 100 });
  for (const count of REPLICAS) {
    const choose = prepare(count, situation);
    if (choose() === undefined && count > 2) throw new Error(`${situation.name}: nothing to choose from ${count}`);
    bench.add(String(count), () => {
      for (let choice = 0; choice < CHOICES_PER_SAMPLE; choice += 1) choose();
    });
  }
  await bench.run();
  return new Map(
    bench.tasks.map(({ name, result }) => {
      if (result.state !== 'completed') throw new Error(`${situation.name}, ${name} replicas: ${result.state}`);
      // tinybench reports milliseconds of a whole sample.
      return [Number(name), (result.latency.p50 * 1_000) / CHOICES_PER_SAMPLE];
    }),
  );
}

const lines = [['choice, µs (median)', ...REPLICAS.map((count) => `${count} replicas`), '1024 against 8', '']];
let isReached = true;
for (const situation of SITUATIONS) {
  const costs = await measure(situation);
  const growth = (costs.get(1_024) ?? Number.NaN) / (costs.get(8) ?? Number.NaN);
  const isWithin = [...costs.values()].every((cost) => cost < LIMIT_MICROSECONDS) && growth <= LIMIT_GROWTH;
  isReached &&= isWithin;
  const cells = REPLICAS.map((count) => (costs.get(count) ?? Number.NaN).toFixed(3));
  lines.push([situation.name, ...cells, `${growth.toFixed(2)}×`, isWithin ? 'reached' : 'NOT REACHED']);
}
const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
for (const line of lines)
  process.stdout.write(`${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}\n`);
process.stdout.write(
  `limits: below ${LIMIT_MICROSECONDS} µs, and 1024 replicas at most ${LIMIT_GROWTH} times 8: ${isReached ? 'reached' : 'NOT REACHED'}\n`,
);
process.exitCode = isReached ? 0 : 1;
