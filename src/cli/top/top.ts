import { constants } from 'node:os';
import { clearScreenDown, cursorTo } from 'node:readline';
import type { Snapshot } from '../../console/messages.js';
import { InfermuxError } from '../../index.js';
import { firstKey } from '../key-file.js';
import { printable } from '../terminal/printable.js';
import { topLines } from './top-screen.js';

export interface TopFlags {
  readonly url: string;
  readonly apiKeys?: string;
  readonly once?: boolean;
  readonly json?: boolean;
}

/** Other screen, and no cursor; and back. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const MOST_MESSAGE = 200;
/** Rates are known from the second snapshot on. */
const FIRST_WITH_RATES = 2;
const HEIGHT = 40;
const WIDTH = 120;

/**
 * Shows what a server does until a signal ends it. Where the output is no terminal it shows one screen.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a wrong address, `FAILED_PRECONDITION` when no infermux answers there or the
 *   connection ends.
 */
export async function top({ url, apiKeys, once, json }: TopFlags): Promise<void> {
  const { stdout } = process;
  const isScreen = stdout.isTTY === true && once !== true && json !== true;
  const isOnce = once === true || (json !== true && !isScreen);
  const ending = new AbortController();
  const stop = (signal: 'SIGINT' | 'SIGTERM') => {
    process.exitCode = 128 + constants.signals[signal];
    ending.abort();
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  if (isScreen) stdout.write(ENTER);
  try {
    let count = 0;
    for await (const snapshot of snapshots(eventsOf(url), apiKeys, ending.signal)) {
      count += 1;
      if (!isScreen && count < FIRST_WITH_RATES) continue;
      if (json === true) stdout.write(`${printable(JSON.stringify(snapshot))}\n`);
      else if (isScreen) draw(snapshot);
      else stdout.write(`${topLines(snapshot, { height: Number.POSITIVE_INFINITY, width: WIDTH }).join('\n')}\n`);
      if (isOnce) return;
    }
    if (!ending.signal.aborted) throw new InfermuxError('FAILED_PRECONDITION', 'the server has ended the connection');
  } finally {
    if (isScreen) stdout.write(LEAVE);
    process.off('SIGINT', stop).off('SIGTERM', stop);
    ending.abort();
  }
}

function draw(snapshot: Snapshot): void {
  const { stdout } = process;
  // A terminal that does not know its size says 0.
  const [height, width] = [stdout.rows || HEIGHT, stdout.columns || WIDTH];
  cursorTo(stdout, 0, 0);
  for (const line of topLines(snapshot, { height: height - 1, width })) stdout.write(`${line}\u001b[K\n`);
  clearScreenDown(stdout);
}

function eventsOf(url: string): URL {
  const base = url.includes('://') ? url : `http://${url}`;
  if (!URL.canParse(base) || !/^https?:$/.test(new URL(base).protocol)) {
    const message = `--url must be like http://localhost:8000, got ${JSON.stringify(url)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return new URL(`${base.replace(/\/(console\/?)?$/, '')}/console/api/events`);
}

async function* snapshots(url: URL, apiKeys: string | undefined, signal: AbortSignal): AsyncGenerator<Snapshot> {
  const headers = apiKeys === undefined ? {} : { authorization: `Bearer ${firstKey(apiKeys)}` };
  try {
    const response = await fetch(url, { headers, signal });
    if (!response.ok) throw refused(url, response.status, await response.text());
    let text = '';
    for await (const piece of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
      text += piece;
      const messages = text.split('\n\n');
      text = messages.pop() ?? '';
      for (const message of messages) yield JSON.parse(message.replace(/^data: /, '')) as Snapshot;
    }
  } catch (cause) {
    if (signal.aborted) return;
    if (cause instanceof InfermuxError) throw cause;
    // fetch hides what went wrong.
    const reason = (cause as { cause?: Error }).cause?.message ?? (cause as Error).message;
    throw new InfermuxError('FAILED_PRECONDITION', `cannot get the state of ${url.origin}: ${reason}`, { cause });
  }
}

function refused(url: URL, status: number, text: string): InfermuxError {
  const why =
    status === 404
      ? 'there is no console: start it with infermux serve, without --no-console'
      : status === 401
        ? 'a key is needed: name its file with --api-keys'
        : text.slice(0, MOST_MESSAGE);
  return new InfermuxError('FAILED_PRECONDITION', `${url.origin} answered ${status}: ${printable(why)}`);
}
