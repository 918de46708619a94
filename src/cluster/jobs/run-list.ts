import type { JetStreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError } from '../../common/errors.js';
import { jetstreamAnswer, natsPackage } from '../nats/nats-connection.js';
import { type JobStreams, keyOf, orMissing } from './job-streams.js';

export type JobState = 'waiting' | 'done' | 'dead';

/** The jobs of each run, by run and id. */
export type Runs = ReadonlyMap<string, ReadonlyMap<string, JobState>>;

/** The server lists some 70,000 jobs a second. */
const LIST_MS = 60_000;

/**
 * Lists what the streams have: jobs that wait or run, results, and dead jobs.
 *
 * @param run only that one; undefined: all.
 * @throws InfermuxError `FAILED_PRECONDITION` by rejection when there are no such streams.
 */
export async function readRuns(connection: NatsConnection, streams: JobStreams, run?: string): Promise<Runs> {
  const manager = await managerOf(connection);
  const runs = new Map<string, Map<string, JobState>>();
  // A job that ends meanwhile is in two lists: first come the jobs that wait. One that was dead, was put in again and is done is done.
  for (const { stream, subjects, state } of placesOf(streams, run)) {
    const found = await jetstreamAnswer(orMissing(manager.streams.info(stream, { subjects_filter: subjects })));
    if (found === undefined) throw noStream(stream);
    for (const subject of Object.keys(found.state.subjects ?? {})) {
      const [name = '', ...id] = keyOf(subject).split('.');
      const jobs = runs.get(name) ?? new Map<string, JobState>();
      jobs.set(id.join('.'), state);
      runs.set(name, jobs);
    }
  }
  return runs;
}

/** Takes the jobs of a run, its results and its dead jobs out of the streams. A job that runs then still has a result. */
export async function deleteRun(connection: NatsConnection, streams: JobStreams, run: string): Promise<void> {
  const manager = await managerOf(connection);
  for (const { stream, subjects } of placesOf(streams, run)) {
    await jetstreamAnswer(manager.streams.purge(stream, { filter: subjects }));
  }
}

async function managerOf(connection: NatsConnection): Promise<JetStreamManager> {
  const { jetstreamManager } = await natsPackage(() => import('@nats-io/jetstream'));
  return jetstreamAnswer(jetstreamManager(connection, { timeout: LIST_MS }));
}

function placesOf(streams: JobStreams, run: string | undefined) {
  const rest = run === undefined ? '>' : `${run}.>`;
  return [
    { stream: streams.jobs, subjects: `${streams.jobs}.jobs.${rest}`, state: 'waiting' },
    { stream: streams.dead, subjects: `${streams.jobs}.dead.${rest}`, state: 'dead' },
    { stream: streams.results, subjects: `${streams.jobs}.results.${rest}`, state: 'done' },
  ] as const;
}

function noStream(stream: string): InfermuxError {
  const message = `there is no stream ${stream}: infermux submit and infermux worker create it`;
  return new InfermuxError('FAILED_PRECONDITION', message);
}
