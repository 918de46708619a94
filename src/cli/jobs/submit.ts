import { randomBytes } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { collectResults, type JobEnd } from '../../cluster/jobs/collect-results.js';
import { openJobs } from '../../cluster/jobs/job-source.js';
import { isPartOfSubject, streamsOf } from '../../cluster/jobs/job-streams.js';
import { submitJobs } from '../../cluster/jobs/submit-jobs.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { InfermuxError } from '../../index.js';
import { quoted } from '../terminal/printable.js';
import { readJsonResult } from './json-result.js';

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
  if (!isPartOfSubject(run)) {
    const message = `--run must have up to 200 letters, digits and any of _ - : = +, got ${quoted(run)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const source = await openJobs(file, { model, input, rows, files });
  const connection = await connectNats(flags.nats, 'infermux submit');
  let out: FileHandle | undefined;
  try {
    // A file that cannot be written must be known before hours of work.
    out = results === undefined ? undefined : await open(results, 'w');
    if (flags.run === undefined) {
      process.stderr.write(`infermux: run ${run}: if this is interrupted, continue with --run ${run}\n`);
    }
    const waiting = sayOnce('NATS does not answer, and is asked again');
    const { accepted, known, digests } = await submitJobs(
      ...([connection, streams, run, source] as const),
      (count) => progress.submitted(count, source.count),
      waiting,
    );
    const report = { file, stream: streams.jobs, run, jobs: accepted + known, known };
    if (out === undefined) return report;
    const total = digests.size;
    let [ended, dead] = [0, 0];
    const take = async (end: JobEnd) => {
      ended += 1;
      if ('code' in end) dead += 1;
      await out?.appendFile(`${JSON.stringify(resultLine(end))}\n`);
      progress.ended(ended, total);
    };
    await collectResults(connection, streams, run, digests, take, waiting);
    return { ...report, done: total - dead, dead };
  } finally {
    await connection.close();
    await out?.close();
  }
}

/** Says on stderr what holds the command up, once. */
function sayOnce(what: string): (reason: string) => void {
  let wasSaid = false;
  return (reason) => {
    if (!wasSaid) process.stderr.write(`infermux: ${what}: ${reason}\n`);
    wasSaid = true;
  };
}

/** Another one each time, so that a file can be put in again for another model. */
function newRun(file: string): string {
  const name = basename(file, extname(file))
    .replace(/[^\w-]/g, '_')
    .slice(0, 60);
  return `${name}-${randomBytes(4).toString('hex')}`;
}

function resultLine(end: JobEnd): object {
  if ('code' in end) return { id: end.id, model: end.model, error: end.reason, code: end.code };
  return { id: end.id, ...readJsonResult(end.body, end.jsonBytes) };
}
