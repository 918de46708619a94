import type { JetStreamManager, StreamConfig } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError, show } from '../../common/errors.js';
import { jetstreamAnswer, makeOnce, natsPackage } from '../nats/nats-connection.js';

/** The streams of a kind of jobs. */
export interface JobStreams {
  /** Jobs that are to be done; each is taken out when it is done. Their subjects are `<name>.jobs.<run>.<id>`. */
  readonly jobs: string;
  /** `<name>.results.<run>.<id>`, one message each. */
  readonly results: string;
  /** Jobs that cannot be done: `<name>.dead.<run>.<id>`, one message each. */
  readonly dead: string;
}

/** Name of the consumer that all workers share. */
export const CONSUMER = 'infermux';

/** How long a worker may be silent about a job before another one gets it. */
export const ACK_WAIT_MS = 5_000;

const NS_PER_MS = 1e6;

/** @throws InfermuxError `INVALID_ARGUMENT` for a name that a stream cannot have. */
export function streamsOf(name: string): JobStreams {
  if (!/^[\w-]{1,64}$/.test(name)) {
    const message = `a stream is named by up to 64 letters, digits, hyphens and underscores, got ${show(name)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (/-(results|dead)$/.test(name)) {
    const message = `a stream of jobs is not named ${name}: that is a stream with what came of the jobs of another one`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return { jobs: name, results: `${name}-results`, dead: `${name}-dead` };
}

/**
 * Makes the streams and the consumer that are not there. Those that are there stay as they are.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` by rejection for a stream of that name that is for something else, and for a server
 *   that is away or has no JetStream.
 */
export function openStreams(connection: NatsConnection, streams: JobStreams): Promise<JetStreamManager> {
  return jetstreamAnswer(open(connection, streams));
}

async function open(connection: NatsConnection, { jobs, results, dead }: JobStreams): Promise<JetStreamManager> {
  const { AckPolicy, jetstreamManager, RetentionPolicy } = await natsPackage(() => import('@nats-io/jetstream'));
  const manager = await jetstreamManager(connection);
  const openStream = (name: string, part: string, retention: Retention) =>
    makeOnce(async () => {
      const subject = `${jobs}.${part}.>`;
      const found = await orMissing(manager.streams.info(name));
      if (found === undefined) await manager.streams.add({ name, subjects: [subject], retention });
      else checkStream(found.config, subject, retention);
    });
  await openStream(jobs, 'jobs', RetentionPolicy.Workqueue);
  await openStream(results, 'results', RetentionPolicy.Limits);
  await openStream(dead, 'dead', RetentionPolicy.Limits);
  if ((await orMissing(manager.consumers.info(jobs, CONSUMER))) !== undefined) return manager;
  await manager.consumers.add(jobs, {
    durable_name: CONSUMER,
    ack_policy: AckPolicy.Explicit,
    ack_wait: ACK_WAIT_MS * NS_PER_MS,
    // Each worker takes as much as it can do.
    max_ack_pending: -1,
  });
  return manager;
}

type Retention = StreamConfig['retention'];

/** @throws InfermuxError `FAILED_PRECONDITION`. */
function checkStream({ name, subjects, retention }: StreamConfig, subject: string, wanted: Retention): void {
  if (subjects.includes(subject) && retention === wanted) return;
  const message = `there is another stream named ${name}: it has the subjects ${subjects.join(', ')} with the retention ${retention}, and ${subject} with ${wanted} is needed; name another one with --stream, or delete it`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

/** Undefined where the server has no such stream or consumer. */
export async function orMissing<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (cause) {
    const { code, name = '', message = '' } = (cause ?? {}) as { code?: unknown; name?: string; message?: string };
    const isMissing = MISSING.includes(code as number) || /NotFoundError$/.test(name) || /not found/i.test(message);
    if (isMissing) return undefined;
    throw cause;
  }
}

/** The server's numbers for a stream and a consumer that are not there. */
const MISSING = [10_059, 10_014];

/** What the subjects of a job, of its result and of its end in the dead stream have in common: `<run>.<id>`, as a rule. */
export function keyOf(subject: string): string {
  return subject.split('.').slice(2).join('.');
}

/** Whether a text can be the name of a run, or the id of a job: a part of a subject. */
export function isPartOfSubject(text: string): boolean {
  return /^[\w:=+-]{1,200}$/.test(text);
}

/** @throws InfermuxError `INVALID_ARGUMENT` for what cannot be the name of a run. */
export function checkRun(run: string): void {
  if (isPartOfSubject(run) && !run.startsWith('-')) return;
  const message = `a run is named by up to 200 letters, digits and any of _ - : = +, with none of - first, got ${show(run)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
