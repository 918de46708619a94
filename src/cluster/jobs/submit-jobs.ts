import { createHash } from 'node:crypto';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { mostBodyBytes, natsPackage } from '../nats/nats-connection.js';
import { DIGEST_HEADER, LENGTH_HEADER, MODEL_HEADER } from './job-headers.js';
import type { JobSource, NewJob } from './job-source.js';
import { type JobStreams, openStreams } from './job-streams.js';

/** Jobs that are on their way to the server at a time. */
const MOST_AHEAD = 256;
const RETRY_MS = 500;
const PUBLISH_MS = 5_000;

export interface Submitted {
  /** Jobs that the stream has taken. */
  readonly accepted: number;
  /** Jobs that it had already. */
  readonly known: number;
  /** The digests of all jobs, by id. */
  readonly digests: Map<string, string>;
}

/**
 * Puts jobs into a stream. A server that goes away is awaited. The stream remembers jobs for a while (two minutes by default).
 *
 * @param run name of these jobs together: a job that was put in under it within two minutes is not put in again.
 * @param waiting called with the reason when the server does not answer, and is asked again.
 * @param done called with the number of jobs that are in, as they go in.
 * @throws InfermuxError `INVALID_ARGUMENT` by rejection for a job that the source or the server refuses.
 */
export async function submitJobs(
  connection: NatsConnection,
  streams: JobStreams,
  run: string,
  source: JobSource,
  done: (count: number) => void,
  waiting: (reason: string) => void = () => undefined,
): Promise<Submitted> {
  const { jetstream } = await natsPackage(() => import('@nats-io/jetstream'));
  const { headers: makeHeaders } = await natsPackage(() => import('@nats-io/transport-node'));
  await openStreams(connection, streams);
  const client = jetstream(connection);
  const most = mostBodyBytes(connection);
  const { largest } = source;
  // Known before the others are done.
  if (largest !== undefined && largest.bytes > most) throw tooLarge(largest.id, largest.bytes, most);
  let [accepted, known] = [0, 0];
  const digests = new Map<string, string>();
  const send = async ({ id, model, body, jsonBytes }: NewJob): Promise<void> => {
    if (body.byteLength > most) throw tooLarge(id, body.byteLength, most);
    const headers = makeHeaders();
    headers.set(MODEL_HEADER, model);
    if (jsonBytes !== undefined) headers.set(LENGTH_HEADER, String(jsonBytes));
    const digest = digestOf(model, body);
    headers.set(DIGEST_HEADER, digest);
    digests.set(id, digest);
    for (;;) {
      try {
        const options = { headers, msgID: `${run}.${id}.${digest}`, timeout: PUBLISH_MS };
        const { duplicate } = await client.publish(`${streams.jobs}.jobs.${run}.${id}`, body, options);
        if (duplicate) known += 1;
        else accepted += 1;
        done(accepted + known);
        return;
      } catch (cause) {
        if (connection.isClosed() || isRefusal(cause)) throw refused(id, cause);
        // The server is away; or has the job, and its answer was lost: it knows the id.
        waiting(messageOf(cause));
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  };
  const underWay = new Set<Promise<void>>();
  let failure: { readonly cause: unknown } | undefined;
  for await (const job of source.jobs()) {
    const sent = send(job)
      .catch((cause: unknown) => {
        failure ??= { cause };
      })
      .finally(() => underWay.delete(sent));
    underWay.add(sent);
    if (underWay.size >= MOST_AHEAD) await Promise.race(underWay);
    if (failure !== undefined) break;
  }
  await Promise.all(underWay);
  if (failure !== undefined) throw failure.cause;
  return { accepted, known, digests };
}

/** Tells jobs apart that have the same run and id. */
function digestOf(model: string, body: Uint8Array): string {
  return createHash('sha256').update(model).update('\0').update(body).digest('base64url').slice(0, DIGEST_CHARACTERS);
}

const DIGEST_CHARACTERS = 16;

/** Whether the server has answered that it does not take the job: it would not take it later. */
function isRefusal(cause: unknown): boolean {
  const { name = '', status, cause: inner } = (cause ?? {}) as { name?: string; status?: unknown; cause?: unknown };
  if (/PermissionViolation|Authorization/.test(name) || (/ApiError/.test(name) && status !== 503)) return true;
  return inner !== undefined && isRefusal(inner);
}

function refused(id: string, cause: unknown): InfermuxError {
  const message = `the NATS server does not take the job ${id}: ${messageOf(cause)}`;
  return new InfermuxError('FAILED_PRECONDITION', message, { cause });
}

function tooLarge(id: string, bytes: number, most: number): InfermuxError {
  const message = `the job ${id} has ${bytes} bytes, and the NATS server takes ${most}: send fewer rows in a job (of a .npy file: --rows), or name rows of a file that workers can read (--files)`;
  return new InfermuxError('INVALID_ARGUMENT', message);
}
