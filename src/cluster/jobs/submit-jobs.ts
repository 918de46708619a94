import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError } from '../../common/errors.js';
import { natsPackage } from '../nats/nats-connection.js';
import { LENGTH_HEADER, MODEL_HEADER } from './job-headers.js';
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
}

/**
 * Puts jobs into a stream. A server that goes away is awaited. The stream remembers jobs for a while (two minutes by default).
 *
 * @param run name of these jobs together: what was put in already under it is not put in again.
 * @param done called with the number of jobs that are in, as they go in.
 * @throws InfermuxError `INVALID_ARGUMENT` by rejection for a job that the source or the server refuses.
 */
export async function submitJobs(
  connection: NatsConnection,
  streams: JobStreams,
  run: string,
  source: JobSource,
  done: (count: number) => void,
): Promise<Submitted> {
  const { jetstream } = await natsPackage(() => import('@nats-io/jetstream'));
  const { headers: makeHeaders } = await natsPackage(() => import('@nats-io/transport-node'));
  await openStreams(connection, streams);
  const client = jetstream(connection);
  const most = connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
  let [accepted, known] = [0, 0];
  const send = async ({ id, model, body, jsonBytes }: NewJob): Promise<void> => {
    if (body.byteLength > most) throw tooLarge(id, body.byteLength, most);
    const headers = makeHeaders();
    headers.set(MODEL_HEADER, model);
    if (jsonBytes !== undefined) headers.set(LENGTH_HEADER, String(jsonBytes));
    for (;;) {
      try {
        const options = { headers, msgID: `${run}.${id}`, timeout: PUBLISH_MS };
        const { duplicate } = await client.publish(`${streams.jobs}.jobs.${run}.${id}`, body, options);
        if (duplicate) known += 1;
        else accepted += 1;
        done(accepted + known);
        return;
      } catch (cause) {
        if (connection.isClosed()) throw cause;
        // The server is away; or has the job, and its answer was lost: it knows the id.
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  };
  const underWay = new Set<Promise<void>>();
  for await (const job of source.jobs()) {
    const sent = send(job).finally(() => underWay.delete(sent));
    sent.catch(() => undefined);
    underWay.add(sent);
    if (underWay.size >= MOST_AHEAD) await Promise.race(underWay);
  }
  await Promise.all(underWay);
  return { accepted, known };
}

function tooLarge(id: string, bytes: number, most: number): InfermuxError {
  const message = `the job ${id} has ${bytes} bytes, and the server takes ${most}: put fewer rows in a job (--rows), or name a file that workers can read (--files)`;
  return new InfermuxError('INVALID_ARGUMENT', message);
}
