import { type FileHandle, open } from 'node:fs/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import { collectResults, type JobEnd } from '../../cluster/jobs/collect-results.js';
import type { JobStreams } from '../../cluster/jobs/job-streams.js';
import { sayOnce } from '../terminal/print.js';
import { readJsonResult } from './json-result.js';

/** Said while a server is awaited. */
export const AWAY = 'NATS does not answer, and is asked again';

/** A file with a line of JSON for each job that has ended. */
export class ResultFile {
  readonly #file: FileHandle;
  done = 0;
  /** Their lines say why. */
  dead = 0;

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Empties the file, or makes it. */
  static async open(path: string): Promise<ResultFile> {
    return new ResultFile(await open(path, 'w'));
  }

  /**
   * Waits for the ends of jobs, and writes them.
   *
   * @param jobs their ids and digests, undefined where any will do; empty when all have ended.
   */
  async collect(
    connection: NatsConnection,
    streams: JobStreams,
    run: string,
    jobs: Map<string, string | undefined>,
    progress: (ended: number, total: number) => void,
  ): Promise<void> {
    const total = this.done + this.dead + jobs.size;
    const take = async (end: JobEnd): Promise<void> => {
      await this.#file.appendFile(`${JSON.stringify(lineOf(end))}\n`);
      if ('code' in end) this.dead += 1;
      else this.done += 1;
      progress(this.done + this.dead, total);
    };
    await collectResults(connection, streams, run, jobs, take, sayOnce(AWAY));
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function lineOf(end: JobEnd): object {
  if ('code' in end) return { id: end.id, model: end.model, error: end.reason, code: end.code };
  return { id: end.id, ...readJsonResult(end.body, end.jsonBytes) };
}
