import { randomBytes } from 'node:crypto';
import { basename, extname } from 'node:path';
import { openJobs } from '../../cluster/jobs/job-source.js';
import { checkRun, streamsOf } from '../../cluster/jobs/job-streams.js';
import { submitJobs } from '../../cluster/jobs/submit-jobs.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { sayOnce } from '../terminal/print.js';
import { AWAY, ResultFile } from './result-file.js';

export interface SubmitFlags {
  readonly nats: string;
  readonly stream: string;
  readonly model?: string;
  readonly input?: string;
  readonly rows?: number;
  readonly files?: string;
  readonly results?: string;
  readonly run?: string;
}

export interface SubmitReport {
  readonly file: string;
  readonly stream: string;
  /** Name of the run: within two minutes a job is not put in again under it. */
  readonly run: string;
  readonly jobs: number;
  /** Jobs that the stream had already. */
  readonly known: number;
  /** With `--results`. */
  readonly done?: number;
  readonly dead?: number;
}

export interface Progress {
  submitted(count: number, total: number): void;
  ended(count: number, total: number): void;
}

/** Puts a file of jobs in, and waits for the results if they are wanted. */
export async function submit(file: string, flags: SubmitFlags, progress: Progress): Promise<SubmitReport> {
  const streams = streamsOf(flags.stream);
  const { model, input, rows, files, results } = flags;
  const run = flags.run ?? newRun(file);
  checkRun(run);
  const source = await openJobs(file, { model, input, rows, files });
  const connection = await connectNats(flags.nats, 'infermux submit');
  let out: ResultFile | undefined;
  try {
    // A file that cannot be written must be known before hours of work.
    out = results === undefined ? undefined : await ResultFile.open(results);
    if (flags.run === undefined) {
      process.stderr.write(`infermux: run ${run}: if this is interrupted, continue with --run ${run}\n`);
    }
    const { accepted, known, digests } = await submitJobs(
      ...([connection, streams, run, source] as const),
      (count) => progress.submitted(count, source.count),
      sayOnce(AWAY),
    );
    const report = { file, stream: streams.jobs, run, jobs: accepted + known, known };
    if (out === undefined) return report;
    await out.collect(connection, streams, run, digests, progress.ended);
    return { ...report, done: out.done, dead: out.dead };
  } finally {
    await connection.close();
    await out?.close();
  }
}

/** Another one each time, so that a file can be put in again for another model. */
function newRun(file: string): string {
  const name = basename(file, extname(file))
    .replace(/[^\w-]|^-/g, '_')
    .slice(0, 60);
  return `${name}-${randomBytes(4).toString('hex')}`;
}
