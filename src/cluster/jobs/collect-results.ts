import type { JsMsg } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';
import { CODE_HEADER, DIGEST_HEADER, LENGTH_HEADER, MODEL_HEADER, REASON_HEADER } from './job-headers.js';
import type { JobStreams } from './job-streams.js';

/** How a job ended. */
export type JobEnd =
  | { readonly id: string; readonly model: string; readonly body: Uint8Array; readonly jsonBytes: number | undefined }
  | { readonly id: string; readonly model: string; readonly code: string; readonly reason: string };

const RETRY_MS = 500;
/** A server that is started again knows nothing of who reads: that is noticed after two of these halves. */
const PULL_MS = 2_000;

/**
 * Gives the end of each of the jobs of a run, one after the other, in the order in which they ended, also from before.
 *
 * @param jobs their ids and digests, undefined where any will do; empty when all have ended.
 * @param waiting called with the reason when the server does not answer, and is asked again.
 * @throws InfermuxError `FAILED_PRECONDITION` by rejection for an end of another job with the same run and id.
 */
export async function collectResults(
  connection: NatsConnection,
  streams: JobStreams,
  run: string,
  jobs: Map<string, string | undefined>,
  take: (end: JobEnd) => Promise<void> | void,
  waiting: (reason: string) => void = () => undefined,
): Promise<void> {
  let failure: { readonly cause: unknown } | undefined;
  let taken: Promise<void> = Promise.resolve();
  const takeInTurn = (id: string, message: JsMsg): Promise<void> => {
    const digest = jobs.get(id);
    jobs.delete(id);
    // There are two streams, and one taker.
    taken = taken.then(async () => {
      if (failure !== undefined) return;
      try {
        checkDigest(run, id, digest, message);
        await take(endOf(id, message));
      } catch (cause) {
        failure = { cause };
        // Nobody takes the others.
        jobs.clear();
      }
    });
    return taken;
  };
  const places = [
    { stream: streams.results, prefix: `${streams.jobs}.results.${run}.` },
    { stream: streams.dead, prefix: `${streams.jobs}.dead.${run}.` },
  ];
  await Promise.all(places.map((place) => follow(connection, place, jobs, takeInTurn, waiting)));
  if (failure !== undefined) throw (failure as { readonly cause: unknown }).cause;
}

function checkDigest(run: string, id: string, digest: string | undefined, { headers }: JsMsg): void {
  const own = headers?.get(DIGEST_HEADER) ?? '';
  if (digest === undefined || own === '' || own === digest) return;
  const message = `the run ${run} has had another job ${id}, and what came of that is kept: name another run with --run`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

async function follow(
  connection: NatsConnection,
  { stream, prefix }: { readonly stream: string; readonly prefix: string },
  jobs: ReadonlyMap<string, unknown>,
  take: (id: string, message: JsMsg) => Promise<void>,
  waiting: (reason: string) => void,
): Promise<void> {
  const { jetstream } = await natsPackage(() => import('@nats-io/jetstream'));
  while (jobs.size > 0) {
    if (connection.isClosed()) throw new InfermuxError('FAILED_PRECONDITION', 'the connection to NATS is closed');
    let looking: NodeJS.Timeout | undefined;
    try {
      // Without a name: ordered, and gone with this process.
      const consumer = await jetstream(connection).consumers.get(stream, { filter_subjects: `${prefix}>` });
      const messages = await consumer.consume({ expires: PULL_MS, idle_heartbeat: PULL_MS / 2 });
      looking = setInterval(() => {
        if (jobs.size === 0) messages.stop();
      }, RETRY_MS);
      for await (const message of messages) {
        const id = message.subject.slice(prefix.length);
        if (jobs.has(id)) await take(id, message);
        if (jobs.size === 0) break;
      }
    } catch (cause) {
      waiting(messageOf(cause));
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
