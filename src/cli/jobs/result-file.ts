import { type FileHandle, open } from 'node:fs/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import { collectResults, type JobEnd } from '../../cluster/jobs/collect-results.js';
import type { JobStreams } from '../../cluster/jobs/job-streams.js';
import { readRuns } from '../../cluster/jobs/run-list.js';
import { InfermuxError } from '../../index.js';
import { sayOnce } from '../terminal/print.js';
import { messageOf, quoted } from '../terminal/printable.js';
import { readJsonResult } from './json-result.js';

/** After so long without a result it is looked whether some can still come. */
const SILENT_MS = 5_000;
/** Said while a server is awaited. */
export const AWAY = 'NATS does not answer, and is asked again';

/** A file with a line of JSON for each job that has ended. */
export class ResultFile {
  readonly #path: string;
  readonly #file: FileHandle;
  done = 0;
  /** Their lines say why. */
  dead = 0;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** Empties the file, or makes it. @throws InfermuxError `INVALID_ARGUMENT` for one that cannot be written. */
  static async open(path: string): Promise<ResultFile> {
    const file = await open(path, 'w').catch((cause: unknown) => {
      throw notWritten(path, cause);
    });
    return new ResultFile(path, file);
  }

  /**
   * Waits for the ends of jobs, and writes them.
   *
   * @param jobs their ids and digests, undefined where any will do; empty when all have ended.
   * @throws InfermuxError `FAILED_PRECONDITION` by rejection, after all others have been written, for jobs that were deleted or whose
   *   results were: nothing would come of waiting for them.
   */
  async collect(
    connection: NatsConnection,
    streams: JobStreams,
    run: string,
    jobs: Map<string, string | undefined>,
    progress: (ended: number, total: number) => void,
  ): Promise<void> {
    const total = this.done + this.dead + jobs.size;
    progress(this.done + this.dead, total);
    let gone = 0;
    let [before, isLooking] = [-1, false];
    const looking = setInterval(async () => {
      const ended = this.done + this.dead;
      // While results come there is nothing to look for.
      const isSilent = ended === before;
      before = ended;
      if (!isSilent || isLooking) return;
      isLooking = true;
      gone += await dropDeleted(connection, streams, run, jobs);
      isLooking = false;
    }, SILENT_MS);
    const take = async (end: JobEnd): Promise<void> => {
      await this.#file.appendFile(`${JSON.stringify(lineOf(end))}\n`).catch((cause: unknown) => {
        throw notWritten(this.#path, cause, ': the results stay in the stream, and infermux jobs fetches them again');
      });
      if ('code' in end) this.dead += 1;
      else this.done += 1;
      progress(this.done + this.dead, total);
    };
    await collectResults(connection, streams, run, jobs, take, sayOnce(AWAY)).finally(() => clearInterval(looking));
    if (gone === 0) return;
    const message = `${gone} jobs of the run ${run} are in no stream: they were deleted, or their results were; name another run with --run to submit them again`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** Takes those out that are in none of the streams, and returns their number. Never rejects. */
async function dropDeleted(
  connection: NatsConnection,
  streams: JobStreams,
  run: string,
  jobs: Map<string, unknown>,
): Promise<number> {
  const there = await readRuns(connection, streams, run).catch(() => undefined);
  // The server is away.
  if (there === undefined) return 0;
  const gone = [...jobs.keys()].filter((id) => there.get(run)?.has(id) !== true);
  for (const id of gone) jobs.delete(id);
  return gone.length;
}

function notWritten(path: string, cause: unknown, more = ''): InfermuxError {
  const message = `--results: ${quoted(path)} cannot be written (${messageOf(cause)})${more}`;
  return new InfermuxError('INVALID_ARGUMENT', message, { cause });
}

function lineOf(end: JobEnd): object {
  if ('code' in end) return { id: end.id, model: end.model, error: end.reason, code: end.code };
  return { id: end.id, ...readJsonResult(end.body, end.jsonBytes) };
}
