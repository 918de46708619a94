import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname, isAbsolute, relative } from 'node:path';
import { createInterface } from 'node:readline';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { isPlainObject } from '../../common/values/realm.js';
import { jsonTensor } from '../../open-inference/handler-tensors.js';
import { openNpy } from './bodies/npy-file.js';
import { isPartOfSubject } from './job-streams.js';

/** A job that is to be put into a stream. */
export interface NewJob {
  /** Among those of its file. */
  readonly id: string;
  readonly model: string;
  readonly body: Uint8Array;
  readonly jsonBytes: number | undefined;
}

/** Jobs in their order. */
export interface JobSource {
  readonly count: number;
  /** The job with the most bytes, as far as that is known before. */
  readonly largest?: { readonly id: string; readonly bytes: number } | undefined;
  jobs(): AsyncIterable<NewJob>;
}

export interface SourceOptions {
  /** The model of jobs that name none. */
  readonly model: string | undefined;
  /** The input that a `.npy` file is for. */
  readonly input: string | undefined;
  /** Rows of a `.npy` file in a job; undefined: as many as make a quarter of a megabyte. */
  readonly rows: number | undefined;
  /** The directory that workers read files from: a `.npy` file below it is named, not sent. */
  readonly files: string | undefined;
}

const BYTES_OF_A_JOB = 262_144;

/**
 * Opens a file of jobs: `.npy`, whose rows become jobs for one input; or JSON lines, each of which is a job: the body of an
 * inference request (`inputs`), or a handler's request (`request`); with an `id` and a `model` of its own if it likes.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a file that is not there, a line that is no job, or options that do not go with it.
 */
export async function openJobs(path: string, options: SourceOptions): Promise<JobSource> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) throw new InfermuxError('INVALID_ARGUMENT', `there is no file ${show(path)}`);
  // It is read twice.
  if (!found.isFile()) throw new InfermuxError('INVALID_ARGUMENT', `${show(path)} is no file: jobs are read from one`);
  return extname(path) === '.npy' ? npyJobs(path, options) : lineJobs(path, options);
}

async function npyJobs(path: string, options: SourceOptions): Promise<JobSource> {
  const { model, input, files } = options;
  if (model === undefined || input === undefined) {
    const message = 'a .npy file needs --model, and --input with the name of the input that its rows are for';
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const npy = await openNpy(path);
  const { datatype, shape, rowBytes } = npy;
  const total = shape[0] as number;
  const rows = options.rows ?? Math.max(1, Math.floor(BYTES_OF_A_JOB / Math.max(1, rowBytes)));
  const named = files === undefined ? undefined : namedBelow(files, path);
  async function* jobs(): AsyncGenerator<NewJob> {
    try {
      for (let from = 0; from < total; from += rows) {
        const to = Math.min(total, from + rows);
        const parameters = { binary_data_output: true };
        const id = `rows-${from}`;
        if (named !== undefined) {
          const inputs = [{ name: input, parameters: { file: named, rows: [from, to] } }];
          yield {
            id,
            model: model as string,
            body: Buffer.from(JSON.stringify({ id, parameters, inputs })),
            jsonBytes: undefined,
          };
          continue;
        }
        const bytes = Buffer.alloc((to - from) * rowBytes);
        await npy.read(from, to, bytes);
        const head = { name: input, datatype, shape: [to - from, ...shape.slice(1)] };
        const inputs = [{ ...head, parameters: { binary_data_size: bytes.byteLength } }];
        const json = Buffer.from(JSON.stringify({ id, parameters, inputs }));
        yield { id, model: model as string, body: Buffer.concat([json, bytes]), jsonBytes: json.length };
      }
    } finally {
      await npy.close();
    }
  }
  const largest = named === undefined ? { id: 'rows-0', bytes: Math.min(rows, total) * rowBytes } : undefined;
  return { count: Math.ceil(total / rows), largest, jobs };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a file that workers would not find. */
function namedBelow(directory: string, path: string): string {
  const named = relative(directory, path);
  if (!named.startsWith('..') && !isAbsolute(named)) return named;
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `${show(path)} is not below the directory of --files, ${show(directory)}`,
  );
}

async function lineJobs(path: string, { model, rows, input }: SourceOptions): Promise<JobSource> {
  if (rows !== undefined || input !== undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', '--rows and --input are for .npy files: here each line is a job');
  }
  async function* jobs(): AsyncGenerator<NewJob> {
    let number = 0;
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
      number += 1;
      // `trim` takes the mark at the beginning of a file away, too.
      const text = line.trim();
      if (text !== '') yield lineJob(text, `line ${number} of ${show(path)}`, `line-${number}`, model);
    }
  }
  // A wrong line must be known before the jobs of those before it are done.
  const ids = new Set<string>();
  let largest: JobSource['largest'];
  for await (const { id, body } of jobs()) {
    if (ids.has(id)) throw new InfermuxError('INVALID_ARGUMENT', `two lines of ${show(path)} have the id ${show(id)}`);
    ids.add(id);
    if (body.byteLength > (largest?.bytes ?? 0)) largest = { id, bytes: body.byteLength };
  }
  return { count: ids.size, largest, jobs };
}

/** @throws InfermuxError `INVALID_ARGUMENT` naming the line. */
function lineJob(line: string, where: string, byDefault: string, model: string | undefined): NewJob {
  const invalid = (why: string) => new InfermuxError('INVALID_ARGUMENT', `${where} ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw invalid(`is not JSON: ${messageOf(cause)}`);
  }
  if (!isPlainObject(value)) throw invalid('must be a JSON object with inputs, or with the request of a handler');
  const { id = byDefault, model: own = model, request, ...rest } = value as Readonly<Record<string, unknown>>;
  if (typeof id !== 'string' || !isPartOfSubject(id)) {
    throw invalid(`needs an id of up to 200 letters, digits and any of _ - : = +, got ${show(id)}`);
  }
  if (typeof own === 'string' && /\p{Cc}/u.test(own))
    throw invalid(`names a model with control characters: ${show(own)}`);
  if (typeof own !== 'string' || own === '') throw invalid('names no model: name one there, or with --model');
  if ((request === undefined) === (rest['inputs'] === undefined)) throw invalid('must have either inputs or request');
  // As it is written: to parse it and write it again would round large integers.
  const body = request === undefined ? line : JSON.stringify({ id, ...rest, inputs: [handlerInput(request)] });
  return { id, model: own, body: Buffer.from(body), jsonBytes: undefined };
}

function handlerInput(request: unknown): object {
  const { dims, data } = jsonTensor(request);
  return { name: 'request', datatype: 'BYTES', shape: dims, data };
}
