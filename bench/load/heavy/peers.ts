import { availableParallelism } from 'node:os';
import { type Contender, type ContenderKind, infermux, mainThread, piscina } from '../contenders.js';
import { type Duration, manyCallers } from '../drivers.js';
import { callersLoad } from '../goals.js';
import type { Measurements } from '../measurements.js';
import type { BenchModel } from '../models.js';

const CORES = availableParallelism();
/** onnxruntime's default is a thread for each physical core, which may be fewer than there are cores. */
const DEFAULT = 0;

const name = (threads: number) =>
  threads === DEFAULT ? 'default threads' : `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
const plain = (threads: number) => mainThread(`onnxruntime-node, ${name(threads)}`, threads);
const pool = (threads: number) => piscina(`Piscina, ${name(threads)} a session`, { threads });

export const AUTO = infermux('infermux');
export const FIXED = [1, CORES].map((threads) =>
  infermux(`infermux, ${name(threads)} a session`, { session: { intraOpNumThreads: threads } }),
);
export const PLAIN_DEFAULT = plain(DEFAULT);
export const PLAIN_CORES = plain(CORES);
const PLAIN_WIDE = [PLAIN_DEFAULT, PLAIN_CORES];
/** As they come: with onnxruntime's default threads, and with one. */
export const COMMON_PEERS = [plain(1), PLAIN_DEFAULT, pool(1), pool(DEFAULT)];
/** Set up for this machine, with a thread for each core. */
const TUNED_PEERS = [PLAIN_CORES, pool(CORES)];
export const PEERS = [...COMMON_PEERS, ...TUNED_PEERS];

export const HEAVY_CONTENDERS = [AUTO, ...FIXED, ...PEERS];
export const HEAVY_CALLERS = [1, 2, 16];

export interface PeerLengths {
  /** Of each measurement with one or two callers, and with more. */
  readonly few: Duration;
  readonly many: Duration;
  /** Before the first measurement with 16 callers. */
  readonly settleMs: number;
  /** Most time for a session for lone requests to come, which it does when they have lost as much as its load takes. */
  readonly wideMs: number;
}

/** Returns the numbers of callers that are measured for a contender. What it learns from one counts for the next. */
function callersFor(kind: ContenderKind): number[] {
  if (kind === AUTO || FIXED.includes(kind)) return HEAVY_CALLERS;
  return PLAIN_WIDE.includes(kind) ? [1, 2] : [2];
}

/** Measures a model. All its contenders are up at once, and idle except in their turn. */
export async function measurePeers(
  model: BenchModel,
  rounds: number,
  { few, many, settleMs, wideMs }: PeerLengths,
  measured: Measurements,
): Promise<void> {
  const measure = (contender: Contender, callers: number, duration: Duration) =>
    manyCallers(contender, model, callers, duration);
  const contenders: Contender[] = [];
  for (const kind of HEAVY_CONTENDERS) {
    const contender = await kind.start(model);
    contenders.push(contender);
    const callers = callersFor(kind);
    if (callers.includes(16)) await measure(contender, 16, { warmUpMs: 0, milliseconds: settleMs });
    if (kind !== AUTO) await measure(contender, 2, few);
    const latest = performance.now() + wideMs;
    while (kind === AUTO && contender.hasWide?.() !== true && performance.now() < latest)
      await measure(contender, 1, { warmUpMs: 0, milliseconds: settleMs });
  }
  for (let round = 0; round < rounds; round += 1) {
    process.stderr.write(`${model.title}: round ${round + 1} of ${rounds}\n`);
    for (let turn = 0; turn < contenders.length; turn += 1) {
      const place = (turn + round) % contenders.length;
      const kind = HEAVY_CONTENDERS[place] as ContenderKind;
      for (const callers of callersFor(kind)) {
        const load = await measure(contenders[place] as Contender, callers, callers > 2 ? many : few);
        measured.add(model.id, kind.name, callersLoad(callers), load);
      }
    }
  }
  for (const contender of contenders) await contender.close();
}
