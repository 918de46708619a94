import type { NatsConnection } from '@nats-io/transport-node';
import { checkRun, streamsOf } from '../../cluster/jobs/job-streams.js';
import { deleteRun, type JobState, readRuns } from '../../cluster/jobs/run-list.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { InfermuxError } from '../../index.js';
import { quoted } from '../terminal/printable.js';
import { ResultFile } from './result-file.js';

export interface RunFlags {
  readonly nats: string;
  readonly stream: string;
  readonly run?: string;
  readonly results?: string;
  readonly delete?: true;
}

/** How far a run is. */
export interface RunState {
  readonly run: string;
  /** Jobs that have not ended: they wait, or run. */
  readonly waiting: number;
  readonly done: number;
  readonly dead: number;
}

/**
 * Says how far the runs of a stream are, or one of them.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` without such a stream, `INVALID_ARGUMENT` for a run that it does not have.
 */
export async function showRuns({ nats, stream, run }: RunFlags): Promise<RunState[]> {
  const streams = streamsOf(stream);
  if (run !== undefined) checkRun(run);
  const connection = await connectNats(nats, 'infermux jobs');
  try {
    const runs = await readRuns(connection, streams, run);
    if (run !== undefined && !runs.has(run)) throw await noRun(connection, stream, run);
    return [...runs].map(([name, jobs]) => stateOf(name, jobs)).sort((one, other) => (one.run < other.run ? -1 : 1));
  } finally {
    await connection.close();
  }
}

/** Deletes a run. Returns what it was. @throws InfermuxError as {@link showRuns}. */
export async function removeRun(flags: RunFlags & { readonly run: string }): Promise<RunState[]> {
  const states = await showRuns(flags);
  const connection = await connectNats(flags.nats, 'infermux jobs');
  try {
    await deleteRun(connection, streamsOf(flags.stream), flags.run);
  } finally {
    await connection.close();
  }
  return states;
}

/** Waits for all results of a run, also for those of jobs that are submitted meanwhile, and writes them to a file. */
export async function fetchRun(
  flags: RunFlags & { readonly run: string; readonly results: string },
  progress: (ended: number, total: number) => void,
): Promise<RunState> {
  const { nats, stream, run, results } = flags;
  const streams = streamsOf(stream);
  checkRun(run);
  const connection = await connectNats(nats, 'infermux jobs');
  let out: ResultFile | undefined;
  try {
    const written = new Set<string>();
    for (;;) {
      const jobs = (await readRuns(connection, streams, run)).get(run);
      if (jobs === undefined && out === undefined) throw await noRun(connection, stream, run);
      // Not before it is sure that there is something to write.
      out ??= await ResultFile.open(results);
      const left = [...(jobs?.keys() ?? [])].filter((id) => !written.has(id));
      if (left.length === 0) return { run, waiting: 0, done: out.done, dead: out.dead };
      await out.collect(connection, streams, run, new Map(left.map((id) => [id, undefined])), progress);
      for (const id of left) written.add(id);
    }
  } finally {
    await connection.close();
    await out?.close();
  }
}

async function noRun(connection: NatsConnection, stream: string, run: string): Promise<InfermuxError> {
  const names = [...(await readRuns(connection, streamsOf(stream))).keys()].sort();
  const shown = names.slice(0, MOST_NAMES).join(', ');
  const there = names.length === 0 ? 'it has none' : `it has ${shown}${names.length > MOST_NAMES ? ', …' : ''}`;
  return new InfermuxError('INVALID_ARGUMENT', `the stream ${stream} has no run ${quoted(run)}: ${there}`);
}

const MOST_NAMES = 10;

function stateOf(run: string, jobs: ReadonlyMap<string, JobState>): RunState {
  const count = (wanted: JobState) => [...jobs.values()].filter((state) => state === wanted).length;
  return { run, waiting: count('waiting'), done: count('done'), dead: count('dead') };
}
