import type { JsMsg } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';
import { CODE_HEADER, LENGTH_HEADER, MODEL_HEADER, REASON_HEADER } from './job-headers.js';
import type { JobStreams } from './job-streams.js';

/** How a job ended. */
export type JobEnd =
  | { readonly id: string; readonly model: string; readonly body: Uint8Array; readonly jsonBytes: number | undefined }
  | { readonly id: string; readonly model: string; readonly code: string; readonly reason: string };

const RETRY_MS = 500;
/** A server that is started again knows nothing of who reads: that is noticed after two of these halves. */
const PULL_MS = 2_000;

/**
 * Gives the end of each of the jobs of a run, in the order in which they ended, also from before.
 *
 * @param ids of the jobs; empty when all have ended.
 */
export async function collectResults(
  connection: NatsConnection,
  streams: JobStreams,
  run: string,
  ids: Set<string>,
  take: (end: JobEnd) => Promise<void> | void,
): Promise<void> {
  let failure: { readonly cause: unknown } | undefined;
  const taking = async (end: JobEnd) => {
    try {
      await take(end);
    } catch (cause) {
      failure ??= { cause };
      // Nobody takes the others.
      ids.clear();
    }
  };
  const places = [
    { stream: streams.results, prefix: `${streams.jobs}.results.${run}.` },
    { stream: streams.dead, prefix: `${streams.jobs}.dead.${run}.` },
  ];
  await Promise.all(places.map((place) => follow(connection, place, ids, taking)));
  if (failure !== undefined) throw failure.cause;
}

async function follow(
  connection: NatsConnection,
  { stream, prefix }: { readonly stream: string; readonly prefix: string },
  ids: Set<string>,
  take: (end: JobEnd) => Promise<void>,
): Promise<void> {
  const { jetstream } = await natsPackage(() => import('@nats-io/jetstream'));
  while (ids.size > 0) {
    if (connection.isClosed()) throw new InfermuxError('FAILED_PRECONDITION', 'the connection to NATS is closed');
    let looking: NodeJS.Timeout | undefined;
    try {
      // Without a name: ordered, and gone with this process.
      const consumer = await jetstream(connection).consumers.get(stream, { filter_subjects: `${prefix}>` });
      const messages = await consumer.consume({ expires: PULL_MS, idle_heartbeat: PULL_MS / 2 });
      looking = setInterval(() => {
        if (ids.size === 0) messages.stop();
      }, RETRY_MS);
      for await (const message of messages) {
        const id = message.subject.slice(prefix.length);
        if (ids.delete(id)) await take(endOf(id, message));
        if (ids.size === 0) break;
      }
    } catch {
      // The server is away.
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    } finally {
      clearInterval(looking);
    }
  }
}

function endOf(id: string, { headers, data: body }: JsMsg): JobEnd {
  const model = headers?.get(MODEL_HEADER) ?? '';
  const code = headers?.get(CODE_HEADER) ?? '';
  if (code !== '') return { id, model, code, reason: headers?.get(REASON_HEADER) ?? '' };
  const length = headers?.get(LENGTH_HEADER) ?? '';
  return { id, model, body, jsonBytes: length === '' ? undefined : Number(length) };
}
