import type { NatsConnection } from '@nats-io/transport-node';
import { checkRun, type JobStreams, streamsOf } from '../../cluster/jobs/job-streams.js';
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
export function showRuns(flags: RunFlags): Promise<RunState[]> {
  return connected(flags, (connection, streams) => readStates(connection, streams, flags.run));
}

/** Deletes a run. Returns what it was. @throws InfermuxError as {@link showRuns}. */
export function removeRun({ run, ...flags }: RunFlags & { readonly run: string }): Promise<RunState[]> {
  return connected({ ...flags, run }, async (connection, streams) => {
    const states = await readStates(connection, streams, run);
    await deleteRun(connection, streams, run);
    return states;
  });
}

/** Waits for all results of a run, also for those of jobs that are submitted meanwhile, and writes them to a file. */
export function fetchRun(
  flags: RunFlags & { readonly run: string; readonly results: string },
  progress: (ended: number, total: number) => void,
): Promise<RunState> {
  const { run, results } = flags;
  return connected(flags, async (connection, streams) => {
    let out: ResultFile | undefined;
    try {
      const written = new Set<string>();
      for (;;) {
        const jobs = (await readRuns(connection, streams, run)).get(run);
        if (jobs === undefined && out === undefined) throw await noRun(connection, streams, run);
        // Not before it is sure that there is something to write.
        out ??= await ResultFile.open(results);
        const left = [...(jobs?.keys() ?? [])].filter((id) => !written.has(id));
        if (left.length === 0) return { run, waiting: 0, done: out.done, dead: out.dead };
        await out.collect(connection, streams, run, new Map(left.map((id) => [id, undefined])), progress);
        for (const id of left) written.add(id);
      }
    } finally {
      await out?.close();
    }
  });
}

/** Checks the names before it connects, and closes the connection after the act. */
async function connected<T>(
  { nats, stream, run }: RunFlags,
  act: (connection: NatsConnection, streams: JobStreams) => Promise<T>,
): Promise<T> {
  const streams = streamsOf(stream);
  if (run !== undefined) checkRun(run);
  const connection = await connectNats(nats, 'infermux jobs');
  try {
    return await act(connection, streams);
  } finally {
    await connection.close();
  }
}

async function readStates(
  connection: NatsConnection,
  streams: JobStreams,
  run: string | undefined,
): Promise<RunState[]> {
  const runs = await readRuns(connection, streams, run);
  if (run !== undefined && !runs.has(run)) throw await noRun(connection, streams, run);
  return [...runs].map(([name, jobs]) => stateOf(name, jobs)).sort((one, other) => (one.run < other.run ? -1 : 1));
}

async function noRun(connection: NatsConnection, streams: JobStreams, run: string): Promise<InfermuxError> {
  const names = [...(await readRuns(connection, streams)).keys()].sort();
  const shown = names.slice(0, MOST_NAMES).join(', ');
  const there = names.length === 0 ? 'it has none' : `it has ${shown}${names.length > MOST_NAMES ? ', …' : ''}`;
  return new InfermuxError('INVALID_ARGUMENT', `the stream ${streams.jobs} has no run ${quoted(run)}: ${there}`);
}

const MOST_NAMES = 10;

function stateOf(run: string, jobs: ReadonlyMap<string, JobState>): RunState {
  const count = (wanted: JobState) => [...jobs.values()].filter((state) => state === wanted).length;
  return { run, waiting: count('waiting'), done: count('done'), dead: count('dead') };
}
