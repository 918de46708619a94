import { setTimeout as sleep } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError, messageOf, show } from '../../common/errors.js';

const RECONNECT_MS = 250;
/** A host that takes no connection and refuses none must not hold up the end of this process. */
const CONNECT_MS = 5_000;
const PACKAGES = '@nats-io/transport-node @nats-io/jetstream @nats-io/kv';

/**
 * Connects to NATS, and stays connected: a server that goes away is awaited.
 *
 * @param url `nats://` or `tls://` with host and port, `user:password@` or `token@` before them; several with commas between.
 * @param name of this client, for whoever looks at the server.
 * @throws InfermuxError `INVALID_ARGUMENT` for another URL; `FAILED_PRECONDITION` when nobody answers there, or NATS's packages
 *   are not installed.
 */
export async function connectNats(url: string, name: string): Promise<NatsConnection> {
  const urls = url.split(',').map(readUrl);
  const { connect } = await natsPackage(() => import('@nats-io/transport-node'));
  const [{ username = '', password = '' } = {}] = urls;
  const [user, pass] = [decodeURIComponent(username), decodeURIComponent(password)];
  const credentials = user === '' ? {} : pass === '' ? { token: user } : { user, pass };
  const tls = urls.some(({ protocol }) => protocol === 'tls:') ? { tls: {} } : {};
  try {
    return await connect({
      ...{ servers: urls.map(({ host }) => host), name, ...credentials, ...tls },
      ...{ maxReconnectAttempts: -1, reconnectTimeWait: RECONNECT_MS, pingInterval: 10_000 },
      ...{ waitOnFirstConnect: false, timeout: CONNECT_MS },
      // It would make two errors for each publication in advance, and their traces take a tenth of a worker's time.
      noAsyncTraces: true,
    });
  } catch (cause) {
    const shown = urls.map(({ host }) => host).join(', ');
    const what = /^Authorization|^UserAuthentication/.test((cause as Error).name)
      ? `the NATS server at ${shown} refuses the user or the password in the URL`
      : `no NATS server answers at ${shown}`;
    throw new InfermuxError('FAILED_PRECONDITION', `${what}: ${messageOf(cause)}`, { cause });
  }
}

/** @throws InfermuxError `INVALID_ARGUMENT` for no URL of NATS. */
export function checkNatsUrl(url: string): void {
  url.split(',').map(readUrl);
}

function readUrl(text: string): URL {
  const url = URL.canParse(text.trim()) ? new URL(text.trim()) : undefined;
  if (url !== undefined && /^(nats|tls):$/.test(url.protocol) && url.host !== '' && isEscaped(url)) return url;
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `the URL of NATS must be like nats://10.0.0.1:4222 (a % in the password is written as %25), got ${show(withoutPassword(text))}`,
  );
}

/** Whether `%` in the user and the password stands only before two hexadecimal digits of UTF-8. */
function isEscaped({ username, password }: URL): boolean {
  try {
    decodeURIComponent(`${username}${password}`);
    return true;
  } catch {
    return false;
  }
}

/** No message may show a password. */
const withoutPassword = (text: string) => text.replace(/\/\/.*@/, '//(secret)@');

/**
 * Waits for an answer of JetStream.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when the server is away, or has no JetStream; everything else as it is.
 */
export async function jetstreamAnswer<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (cause) {
    const { name = '', message = '' } = (cause ?? {}) as { readonly name?: string; readonly message?: string };
    const why = /^JetStreamNotEnabled/.test(name)
      ? 'the NATS server has no JetStream: start it with nats-server -js'
      : /^Timeout|^NoResponders|^RequestError|^ClosedConnection/.test(name)
        ? `the NATS server does not answer: ${message}`
        : undefined;
    throw why === undefined ? cause : new InfermuxError('FAILED_PRECONDITION', why, { cause });
  }
}

const MOST_TRIES = 5;
const AGAIN_MS = 20;

/**
 * Makes a stream or a bucket unless it is there. Of those that make the same one at the same moment the server refuses all but one,
 * as if its subjects were taken: they find it when they look again.
 */
export async function makeOnce<T>(makeUnlessThere: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await makeUnlessThere();
    } catch (cause) {
      if (tries === MOST_TRIES || !isTaken(cause)) throw cause;
      await sleep(AGAIN_MS);
    }
  }
}

function isTaken(cause: unknown): boolean {
  const { code, message = '' } = (cause ?? {}) as { readonly code?: unknown; readonly message?: string };
  return TAKEN.includes(code as number) || /subjects overlap|name already in use/.test(message);
}

/** The server's numbers for a stream whose name or subjects another one has. */
const TAKEN = [10_058, 10_065];

/** Bytes of a message for its headers. */
const MOST_HEADERS = 4_096;

/** Bytes that the body of a message may have beside its headers. */
export function mostBodyBytes(connection: NatsConnection): number {
  return (connection.info?.max_payload ?? Number.POSITIVE_INFINITY) - MOST_HEADERS;
}

/** Whether a message was refused because its subject has another one than was expected. */
export function isConflict(cause: unknown): boolean {
  const { code, message = '' } = (cause ?? {}) as { readonly code?: unknown; readonly message?: string };
  return code === WRONG_LAST_SEQUENCE || message.includes('wrong last sequence');
}

/** The server's number for it. */
const WRONG_LAST_SEQUENCE = 10_071;

/** @throws InfermuxError `FAILED_PRECONDITION` when NATS's client is not installed. */
export async function checkNatsPackages(): Promise<void> {
  await natsPackage(() => Promise.all([import('@nats-io/transport-node'), import('@nats-io/kv')]));
}

/**
 * Loads a package of NATS's client.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when it is not installed.
 */
export async function natsPackage<T>(load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as { readonly code?: unknown } | null)?.code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    const message = `NATS needs its client, which is not installed: npm install ${PACKAGES}`;
    throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
  }
}
