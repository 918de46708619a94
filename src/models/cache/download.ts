import type { Clock } from '../../common/clock.js';
import { InfermuxError } from '../../common/errors.js';
import { PartialFile, type PartialWriter, strongValidator, type Validator } from './partial-file.js';
import { fetchFailed, fetchFile, type RemoteFile, reasonOf } from './remote-file.js';

/** What is known of a file before it is there. */
export interface Expected {
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;
  /** More are refused. */
  readonly mostBytes: number;
}

export interface DownloadTerms {
  readonly expected: Expected;
  /** Of a copy that is there: the file is not downloaded if it is still the same. */
  readonly known: Validator | undefined;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  /** So many bytes have come. */
  received(bytes: number): void;
}

/** A file that was downloaded. */
export interface Downloaded {
  readonly bytes: number;
  readonly sha256: string;
  readonly validator: Validator;
}

/** A server or a stream that says nothing for so long is given up. */
const LONGEST_SILENCE_MS = 30_000;
/** A download that was cut off goes on so often. */
const MOST_ATTEMPTS = 5;
const FIRST_PAUSE_MS = 100;

/** The connection ended before the file did; the rest can be asked for. */
interface CutOff {
  readonly reason: string;
}

/**
 * Downloads a file into its place, which is taken when all of it is there and right. What comes is written to the disk
 * at once. After a cut, also in an earlier process, the rest is asked for, if the server says that it is the same file.
 *
 * @returns `unchanged` when the known copy is the present one; undefined when there is no such file.
 * @throws InfermuxError `MODEL_LOAD_FAILED`; retryable when the server or the network is to blame.
 */
export async function download(
  file: RemoteFile,
  place: string,
  terms: DownloadTerms,
): Promise<Downloaded | 'unchanged' | undefined> {
  const partial = new PartialFile(place);
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await attemptTo(file, partial, terms);
    if (outcome === undefined || outcome === 'unchanged') return outcome;
    if ('sha256' in outcome) {
      partial.finish();
      return outcome;
    }
    if (attempt === MOST_ATTEMPTS) throw fetchFailed(file.url, outcome.reason, true);
    await pause(terms, FIRST_PAUSE_MS * 2 ** (attempt - 1));
  }
}

async function attemptTo(
  file: RemoteFile,
  partial: PartialFile,
  terms: DownloadTerms,
): Promise<Downloaded | 'unchanged' | CutOff | undefined> {
  const silence = new Silence(terms);
  try {
    const begun = partial.begun();
    const response = await silence.during(fetchFile(file, headersFor(begun, terms.known), silence.signal));
    const { status } = response;
    if (status === 200 || (status === 206 && begun !== undefined))
      return await receive(file, response, partial, begun, terms, silence);
    await response.body?.cancel();
    if (status === 304 && begun === undefined && terms.known !== undefined) return 'unchanged';
    if (status === 404 || status === 410) return undefined;
    if (status === 416 && begun !== undefined) {
      partial.discard();
      return { reason: 'the server has less than there is already' };
    }
    const isPassing = status >= 500 || [408, 425, 429].includes(status);
    throw fetchFailed(file.url, `the server answered ${status}`, isPassing);
  } finally {
    silence.end();
  }
}

function headersFor(begun: { bytes: number; validator: Validator } | undefined, known: Validator | undefined) {
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (begun !== undefined) {
    headers['range'] = `bytes=${begun.bytes}-`;
    headers['if-range'] = strongValidator(begun.validator) as string;
  } else if (known !== undefined) {
    if (known.etag !== undefined) headers['if-none-match'] = known.etag;
    if (known.lastModified !== undefined) headers['if-modified-since'] = known.lastModified;
  }
  return headers;
}

async function receive(
  { url }: RemoteFile,
  response: Response,
  partial: PartialFile,
  begun: { bytes: number; validator: Validator } | undefined,
  { expected, received, signal }: DownloadTerms,
  silence: Silence,
): Promise<Downloaded | CutOff> {
  const { headers, status } = response;
  const validator = validatorOf(headers);
  const isRest = status === 206;
  if (isRest && !goesOn(headers, begun, validator)) {
    await response.body?.cancel();
    partial.discard();
    return { reason: 'the file has changed on the server' };
  }
  const total = totalOf(headers, isRest ? (begun?.bytes ?? 0) : 0);
  let writer: PartialWriter;
  try {
    if (total !== undefined) checkTotal(url, total, expected);
    writer = await partial.open(isRest ? 'end' : 'start', validator, total);
  } catch (cause) {
    // Otherwise the connection stays open.
    await response.body?.cancel();
    throw cause;
  }
  try {
    const cut = await writeBody(url, response, writer, { expected, received, signal }, silence);
    if (cut !== undefined) return cut;
    if (total !== undefined && writer.bytes < total)
      return { reason: `it ended after ${writer.bytes} of ${total} bytes` };
    const { bytes } = writer;
    const sha256 = await writer.finish();
    const wrong = whyWrong({ bytes, sha256 }, expected);
    if (wrong === undefined) return { bytes, sha256, validator };
    partial.discard();
    throw fetchFailed(url, wrong, false);
  } finally {
    writer.close();
  }
}

/** @returns why the body ended too early. */
async function writeBody(
  url: URL,
  { body }: Response,
  writer: PartialWriter,
  { expected, received, signal }: Pick<DownloadTerms, 'expected' | 'received' | 'signal'>,
  silence: Silence,
): Promise<CutOff | undefined> {
  const pieces = body?.[Symbol.asyncIterator]();
  try {
    while (pieces !== undefined) {
      let next: IteratorResult<Uint8Array>;
      try {
        next = await silence.during(pieces.next() as Promise<IteratorResult<Uint8Array>>);
      } catch (cause) {
        if (signal.aborted) throw cause;
        return { reason: cause instanceof InfermuxError ? cause.message : `it was cut off: ${reasonOf(cause)}` };
      }
      if (next.done === true) return undefined;
      writer.write(next.value);
      received(next.value.byteLength);
      if (writer.bytes > Math.min(expected.mostBytes, expected.bytes ?? Number.POSITIVE_INFINITY))
        throw tooLarge(url, `it has at least ${writer.bytes} bytes`, expected);
    }
    return undefined;
  } finally {
    // Ends the connection, unless all was read.
    void pieces?.return?.().catch(() => undefined);
  }
}

function validatorOf(headers: Headers): Validator {
  return { etag: headers.get('etag') ?? undefined, lastModified: headers.get('last-modified') ?? undefined };
}

/** Whether what comes is the rest of what there is. */
function goesOn(
  headers: Headers,
  begun: { bytes: number; validator: Validator } | undefined,
  validator: Validator,
): boolean {
  const start = /^bytes (\d+)-/.exec(headers.get('content-range') ?? '')?.[1];
  if (begun === undefined || Number(start) !== begun.bytes) return false;
  const now = strongValidator(validator);
  // A server need not repeat the validator that it has just agreed to.
  return now === undefined || now === strongValidator(begun.validator);
}

/** Bytes of the whole file; undefined when the server does not say. */
function totalOf(headers: Headers, before: number): number | undefined {
  const length = headers.get('content-length');
  // An encoded body has another length than the file.
  const isEncoded = (headers.get('content-encoding') ?? 'identity') !== 'identity';
  return length === null || isEncoded ? undefined : before + Number(length);
}

function checkTotal(url: URL, total: number, expected: Expected): void {
  if (total > expected.mostBytes) throw tooLarge(url, `it has ${total} bytes`, expected);
  if (expected.bytes === undefined || total === expected.bytes) return;
  throw fetchFailed(url, `it has ${total} bytes; expected ${expected.bytes}`, false);
}

function tooLarge(url: URL, what: string, { bytes, mostBytes }: Expected): InfermuxError {
  const limit = bytes !== undefined && bytes <= mostBytes ? `expected ${bytes}` : `maxModelBytes allows ${mostBytes}`;
  return fetchFailed(url, `${what}; ${limit}`, false);
}

/** Why a file is not what was expected; undefined when it is. */
export function whyWrong(
  { bytes, sha256 }: Pick<Downloaded, 'bytes' | 'sha256'>,
  expected: Expected,
): string | undefined {
  if (bytes > expected.mostBytes) return `it has ${bytes} bytes; maxModelBytes allows ${expected.mostBytes}`;
  if (expected.bytes !== undefined && bytes !== expected.bytes)
    return `it has ${bytes} bytes; expected ${expected.bytes}`;
  if (expected.sha256 === undefined || sha256 === expected.sha256.toLowerCase()) return undefined;
  return `it has SHA-256 ${sha256}; expected ${expected.sha256.toLowerCase()}`;
}

function pause({ clock, signal }: DownloadTerms, ms: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = clock.schedule(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, ms);
    const abort = () => {
      cancel();
      reject(signal.reason);
    };
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}

/** Gives up what takes too long to say anything, and what is not wanted any more. */
export class Silence {
  readonly #clock: Clock;
  readonly #wanted: AbortSignal;
  readonly #controller = new AbortController();
  readonly #abort = () => this.#giveUp(this.#wanted.reason);
  #reject: (reason: unknown) => void = () => undefined;

  constructor({ clock, signal }: Pick<DownloadTerms, 'clock' | 'signal'>) {
    this.#clock = clock;
    this.#wanted = signal;
    if (signal.aborted) this.#abort();
    else signal.addEventListener('abort', this.#abort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /**
   * Call it for one piece of work after the other.
   *
   * @throws what the work throws; InfermuxError when it takes too long; the reason why it is not wanted any more.
   */
  async during<T>(work: Promise<T>): Promise<T> {
    const cancel = this.#clock.schedule(() => {
      const message = `nothing came for ${LONGEST_SILENCE_MS} ms`;
      this.#giveUp(new InfermuxError('MODEL_LOAD_FAILED', message, { retryable: true }));
    }, LONGEST_SILENCE_MS);
    const { signal } = this.#controller;
    try {
      // The work may not mind the signal: a stream, or what signs requests. (A race with one promise for all pieces would
      // keep each of them until the last has come.)
      return await new Promise<T>((resolve, reject) => {
        this.#reject = reject;
        if (signal.aborted) reject(signal.reason);
        work.then(resolve, reject);
      });
    } catch (cause) {
      throw signal.aborted && signal.reason instanceof InfermuxError ? signal.reason : cause;
    } finally {
      cancel();
    }
  }

  end(): void {
    this.#wanted.removeEventListener('abort', this.#abort);
  }

  #giveUp(reason: unknown): void {
    this.#controller.abort(reason);
    this.#reject(reason);
  }
}
