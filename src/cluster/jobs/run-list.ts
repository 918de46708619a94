import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';
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
  const { jetstreamManager } = await natsPackage(() => import('@nats-io/jetstream'));
  const manager = await jetstreamManager(connection, { timeout: LIST_MS });
  const runs = new Map<string, Map<string, JobState>>();
  // In the order in which a job goes through them: one that ends meanwhile is in two lists, and the later one is right.
  const places = [
    { stream: streams.jobs, part: 'jobs', state: 'waiting' },
    { stream: streams.results, part: 'results', state: 'done' },
    { stream: streams.dead, part: 'dead', state: 'dead' },
  ] as const;
  for (const { stream, part, state } of places) {
    const subjects = `${streams.jobs}.${part}.${run === undefined ? '' : `${run}.`}>`;
    const found = await orMissing(manager.streams.info(stream, { subjects_filter: subjects }));
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

function noStream(stream: string): InfermuxError {
  const message = `there is no stream ${stream}: infermux submit and infermux worker create it`;
  return new InfermuxError('FAILED_PRECONDITION', message);
}
