import type { JetStreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError, show } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';

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
  return { jobs: name, results: `${name}-results`, dead: `${name}-dead` };
}

/** Makes the streams that are not there, and the consumer. Those that are there stay as they are. */
export async function openStreams(
  connection: NatsConnection,
  { jobs, results, dead }: JobStreams,
): Promise<JetStreamManager> {
  const { AckPolicy, jetstreamManager, RetentionPolicy } = await natsPackage(() => import('@nats-io/jetstream'));
  const manager = await jetstreamManager(connection);
  const add = async (name: string, part: string, retention: (typeof RetentionPolicy)[keyof typeof RetentionPolicy]) => {
    try {
      await manager.streams.info(name);
    } catch (cause) {
      if (!isMissing(cause)) throw cause;
      await manager.streams.add({ name, subjects: [`${jobs}.${part}.>`], retention });
    }
  };
  await add(jobs, 'jobs', RetentionPolicy.Workqueue);
  await add(results, 'results', RetentionPolicy.Limits);
  await add(dead, 'dead', RetentionPolicy.Limits);
  await manager.consumers.add(jobs, {
    durable_name: CONSUMER,
    ack_policy: AckPolicy.Explicit,
    ack_wait: ACK_WAIT_MS * NS_PER_MS,
    // Each worker takes as much as it can do.
    max_ack_pending: -1,
  });
  return manager;
}

function isMissing(cause: unknown): boolean {
  const { code, name, message = '' } = (cause ?? {}) as { code?: unknown; name?: string; message?: string };
  return code === 10_059 || name === 'StreamNotFoundError' || /stream not found/i.test(message);
}

/** What the subjects of a job, of its result and of its end in the dead stream have in common: `<run>.<id>`, as a rule. */
export function keyOf(subject: string): string {
  return subject.split('.').slice(2).join('.');
}

/** Whether a text can be the name of a run, or the id of a job: a part of a subject. */
export function isPartOfSubject(text: string): boolean {
  return /^[\w:=+-]{1,200}$/.test(text);
}
