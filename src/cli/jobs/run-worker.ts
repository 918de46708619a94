import { hostname } from 'node:os';
import type { NatsConnection } from '@nats-io/transport-node';
import { type Logger, pino } from 'pino';
import { JobFiles } from '../../cluster/jobs/bodies/job-files.js';
import { engineJobs } from '../../cluster/jobs/engine-jobs.js';
import { streamsOf } from '../../cluster/jobs/job-streams.js';
import { JobWorker } from '../../cluster/jobs/job-worker.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { createEngine, type EngineOptions, type InferenceEngine, InfermuxError } from '../../index.js';
import { readConfigFile } from '../serve/config-file.js';
import { OWN_MODELS } from '../serve/own-models.js';
import type { ServeFlags } from '../serve/serve-options.js';
import { withFlags } from '../serve/with-flags.js';
import { untilSignal } from '../until-signal.js';

export interface WorkerFlags extends ServeFlags {
  readonly nats: string;
  readonly stream: string;
  readonly files?: string;
}

/** Jobs under way for each replica: enough for batches, and for the way to the server and back. */
const JOBS_PER_REPLICA = 64;
const MOST_JOBS = 4_096;
const COUNT_MS = 10_000;
const GRACE_SECONDS = 30;

/**
 * Does jobs until a signal ends it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for wrong options; `FAILED_PRECONDITION` without a server.
 */
export async function runWorker(flags: WorkerFlags): Promise<void> {
  const streams = streamsOf(flags.stream);
  const config = withFlags(flags.config === undefined ? {} : await readConfigFile(flags.config), flags);
  const log = pino({ level: flags.logLevel ?? 'info' }, pino.destination(2));
  const options: EngineOptions = { models: OWN_MODELS, logger: log, ...config.engine };
  const node = flags.nodeName ?? `${hostname()}:${process.pid}`;
  const graceMs = (flags.grace ?? GRACE_SECONDS) * 1_000;
  const ended = untilSignal();
  const files = await JobFiles.open(flags.files);
  let engine: InferenceEngine | undefined;
  const connection = await connectNats(flags.nats, `infermux worker ${node}`);
  try {
    engine = await createEngine(options);
    const replicas = Object.values(engine.status().deployments).reduce((sum, each) => sum + each.targetReplicas, 0);
    const worker = await JobWorker.start(connection, {
      ...{ streams, node, concurrency: Math.min(MOST_JOBS, JOBS_PER_REPLICA * Math.max(1, replicas)) },
      run: engineJobs(engine, files),
      log: (level, fields, message) => log[level](fields, message),
    });
    log.info({ node, stream: streams.jobs }, 'waiting for jobs');
    const counting = setInterval(() => log.info({ ...worker.counts }, 'jobs'), COUNT_MS);
    const closed = connection.closed();
    void sayWhenAway(connection, log);
    const cause = await Promise.race([ended.then(() => undefined), closed]);
    clearInterval(counting);
    await worker.stop(graceMs);
    log.info({ ...worker.counts }, 'jobs');
    if (cause) throw new InfermuxError('FAILED_PRECONDITION', `the connection to NATS has ended: ${cause.message}`);
  } finally {
    await connection.close();
    // No result of it would be stored.
    await engine?.close({ graceMs: 0 });
  }
}

/** Says when the server has gone away and come back. Ends with the connection. */
async function sayWhenAway(connection: NatsConnection, log: Logger): Promise<void> {
  for await (const { type } of connection.status()) {
    if (type === 'disconnect') log.warn('NATS has gone away; waiting for it');
    if (type === 'reconnect') log.info('NATS is back');
  }
}
