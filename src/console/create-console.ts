import type { IncomingMessage, ServerResponse } from 'node:http';
import { check, checkOptions, isBoolean, satisfies } from '../common/checks.js';
import { InfermuxError, toInfermuxError } from '../common/errors.js';
import type { InferenceEngine } from '../index.js';
import { Console, PAGE_HEADERS } from './console.js';

export interface ConsoleOptions {
  /** Path of the page on your server. Default `'/console'`. */
  readonly path?: string | undefined;
  /** Whether the page can load and unload models. Default false. */
  readonly admin?: boolean | undefined;
}

/** The console as a part of your own server. */
export interface MountedConsole {
  /**
   * Answers a request for the page and its data. Works with `node:http`, and with `app.use(path, handler)` of Express
   * and others. Check before the call whether the user may see it.
   */
  readonly handler: (request: IncomingMessage, response: ServerResponse) => void;
  /** Closes the connections of open pages, and stops listening to the engine. Idempotent. */
  close(): void;
}

/** Most bytes of a request of the form: a large picture. */
const MOST_BYTES = 64 * 2 ** 20;
/** HTTP statuses of errors that are the page's own. Others are 500. */
const STATUSES: Readonly<Partial<Record<InfermuxError['code'], number>>> = {
  INVALID_ARGUMENT: 400,
  MODEL_NOT_FOUND: 404,
  QUEUE_FULL: 429,
  DEADLINE_EXCEEDED: 504,
  ENGINE_CLOSED: 503,
};

/** A request as routers pass it on. */
interface RoutedMessage extends IncomingMessage {
  /** The address before a router has taken a part of it. */
  readonly originalUrl?: string;
  /** What a parser has made of the body. */
  readonly body?: unknown;
}

const isPath = satisfies(
  (value) => typeof value === 'string' && /^(\/[\w.~-]+)*$/.test(value),
  "a path like '/console', or '' for the root",
);

/**
 * Creates the console of an engine: a page that shows live what the engine does, and has a form to try models. While no
 * browser has it open, it costs nothing.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the option.
 */
export function createConsole(engine: InferenceEngine, options: ConsoleOptions = {}): MountedConsole {
  const { path = '/console', admin = false } = checkOptions('createConsole', options, {
    path: isPath,
    admin: isBoolean,
  });
  check('the engine of createConsole', engine, satisfies(isEngine, 'an engine, which createEngine makes'));
  const own = new Console(engine, admin);
  return {
    handler: (request, response) => void answer(own, path, request, response),
    close: () => own.close(),
  };
}

function isEngine(value: unknown): boolean {
  return typeof (value as Partial<InferenceEngine> | undefined)?.infer === 'function';
}

async function answer(own: Console, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    await route(own, path, request, response);
  } catch (cause) {
    const { code, message } = toInfermuxError(cause);
    send(response, STATUSES[code] ?? 500, { error: message, code });
  }
}

async function route(own: Console, path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [pathname = '', query] = (request.url ?? '/').split('?', 2);
  // Express takes the path away, and keeps it here.
  const { originalUrl = pathname } = request as RoutedMessage;
  // Routers take the path away, or leave it.
  const within = pathname === path || pathname.startsWith(`${path}/`) ? pathname.slice(path.length) : pathname;
  const name = within.replace(/^\//, '');
  const model = new URLSearchParams(query).get('model') ?? '';
  if (request.method === 'POST') {
    checkSite(request);
    if (name === 'api/infer') {
      const leaving = new AbortController();
      response.on('close', () => leaving.abort());
      send(response, 200, await own.infer(await bodyOf(request), leaving.signal));
    } else if ((name === 'api/admin/load' || name === 'api/admin/unload') && own.isAdmin) {
      await (name === 'api/admin/load' ? own.load(model) : own.unload(model));
      send(response, 200, {});
    } else send(response, 404, { error: `nothing is at POST ${name}` });
  } else if (request.method !== 'GET') {
    send(response, 405, { error: 'the method must be GET or POST' });
  } else if (name === 'api/events') {
    if (!own.watch(response)) send(response, 503, { error: 'too many pages are open' });
  } else if (name === 'api/model') send(response, 200, await own.describe(model));
  else sendAsset(own, name, originalUrl.split('?', 1)[0] as string, response);
}

/** @param pathname as the browser sees it. */
function sendAsset(own: Console, name: string, pathname: string, response: ServerResponse): void {
  // The page's addresses are relative to it.
  if (name === '' && !pathname.endsWith('/')) {
    response.writeHead(302, { location: `${pathname.slice(pathname.lastIndexOf('/') + 1)}/` }).end();
    return;
  }
  const asset = own.asset(name);
  if (asset === undefined) send(response, 404, { error: `nothing is at ${name}` });
  else response.writeHead(200, { ...PAGE_HEADERS, 'content-type': asset.type }).end(asset.text);
}

/** Refuses what a page of another site sends by the browser of somebody who can reach this server. */
function checkSite({ headers }: IncomingMessage): void {
  const { origin, host } = headers;
  if (origin === undefined) return;
  // Browsers say it themselves, also where a proxy has replaced the host; older ones do not.
  const { 'sec-fetch-site': site = URL.canParse(origin) && new URL(origin).host === host ? 'same-origin' : '' } =
    headers;
  if (site === 'same-origin') return;
  throw new InfermuxError('INVALID_ARGUMENT', `pages of ${origin} may not send requests`);
}

async function bodyOf(request: RoutedMessage): Promise<string> {
  // A parser of bodies comes before the console in some servers.
  if (request.body !== undefined) return typeof request.body === 'string' ? request.body : JSON.stringify(request.body);
  if (request.readableEnded) {
    const message = 'the body was read before the console got the request: mount the console before parsers of bodies';
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > MOST_BYTES) throw new InfermuxError('INVALID_ARGUMENT', `a request has at most ${MOST_BYTES} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}

function send(response: ServerResponse, status: number, value: object): void {
  if (response.headersSent) return;
  response.writeHead(status, { ...PAGE_HEADERS, 'content-type': 'application/json' }).end(JSON.stringify(value));
}
