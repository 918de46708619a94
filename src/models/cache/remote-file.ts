import { InfermuxError, messageOf } from '../../common/errors.js';

/** Signs a request: returns it with a signature in its headers or in its URL. */
export type SignRequest = (request: {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}) => SignedRequest | Promise<SignedRequest>;

/** A `Request` is one. */
export interface SignedRequest {
  readonly url: string | URL;
  readonly headers?: Headers | Readonly<Record<string, string>> | undefined;
}

/** A file on a server. */
export interface RemoteFile {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly sign: SignRequest | undefined;
  /** Whether it, and what it is redirected to, may go over a connection that anybody on the way can change. */
  readonly allowHttp: boolean;
}

const MOST_REDIRECTS = 5;
const REDIRECTS = [301, 302, 303, 307, 308];
/** Other headers may hold secrets, which are for one server. */
const FOR_ANY_SERVER = ['accept-encoding', 'range', 'if-range', 'if-none-match', 'if-modified-since'];

/** The URL in messages: what follows its path may be a secret. */
export function shownUrl({ protocol, host, pathname }: URL): string {
  return `${protocol}//${host}${pathname}`;
}

/** Whether a name or a password is in the URL, where messages and logs would show it. */
export function hasCredentials({ username, password }: URL): boolean {
  return username !== '' || password !== '';
}

export function fetchFailed(url: URL, reason: string, retryable: boolean, cause?: unknown): InfermuxError {
  return new InfermuxError('MODEL_LOAD_FAILED', `${shownUrl(url)}: ${reason}`, { cause, retryable });
}

/**
 * Asks the server for the file, and follows redirects.
 *
 * @param extra headers beside those of the file.
 * @throws InfermuxError `MODEL_LOAD_FAILED` when there is no answer, or the way to it is not allowed.
 */
export async function fetchFile(
  file: RemoteFile,
  extra: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Response> {
  let { url } = file;
  let headers = new Headers({ ...file.headers, ...extra });
  if (file.sign !== undefined) {
    const signed = await sign(file, file.sign);
    url = signed.url;
    headers = new Headers({ ...signed.headers, ...extra });
  }
  for (let redirects = 0; ; redirects += 1) {
    checkProtocol(url, file);
    const response = await fetchOnce(url, headers, signal);
    const location = REDIRECTS.includes(response.status) ? response.headers.get('location') : null;
    if (location === null) return response;
    await response.body?.cancel();
    if (redirects === MOST_REDIRECTS)
      throw fetchFailed(file.url, `it is redirected more than ${MOST_REDIRECTS} times`, false);
    const next = targetOf(location, url, file);
    if (url.protocol === 'https:' && next.protocol !== 'https:')
      throw fetchFailed(file.url, `it is redirected from https: to ${next.protocol}`, false);
    if (next.origin !== url.origin)
      headers = new Headers([...headers].filter(([name]) => FOR_ANY_SERVER.includes(name.toLowerCase())));
    url = next;
  }
}

async function sign({ url, headers }: RemoteFile, signRequest: SignRequest): Promise<{ url: URL; headers: HeadersOf }> {
  let signed: SignedRequest;
  try {
    signed = await signRequest({ url: url.href, headers });
  } catch (cause) {
    throw fetchFailed(url, `the request could not be signed: ${messageOf(cause)}`, false, cause);
  }
  try {
    return { url: new URL(signed.url), headers: Object.fromEntries(new Headers(signed.headers ?? headers)) };
  } catch {
    // The reason may hold the secret.
    throw fetchFailed(url, 'the signed request has a URL or headers that are none', false);
  }
}

type HeadersOf = Readonly<Record<string, string>>;

async function fetchOnce(url: URL, headers: Headers, signal: AbortSignal): Promise<Response> {
  try {
    return await fetch(url, { headers, signal, redirect: 'manual' });
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    throw fetchFailed(url, `no answer: ${reasonOf(cause)}`, true);
  }
}

/**
 * What fetch throws says "fetch failed", and its cause says why. Only a reason of the network is told: others may show
 * the whole URL.
 */
export function reasonOf(cause: unknown): string {
  const { cause: inner } = (cause ?? {}) as { readonly cause?: { readonly code?: unknown } };
  return typeof inner?.code === 'string' ? messageOf(inner) : 'the request failed';
}

function targetOf(location: string, from: URL, { url }: RemoteFile): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  if (target !== undefined && !hasCredentials(target)) return target;
  throw fetchFailed(url, 'it is redirected to what is no URL, or one with a password in it', false);
}

function checkProtocol(url: URL, { allowHttp }: RemoteFile): void {
  if (url.protocol === 'https:' || (url.protocol === 'http:' && allowHttp)) return;
  const advice = url.protocol === 'http:' ? ': allowHttp: true allows it' : '';
  throw fetchFailed(url, `models are fetched by https${advice}`, false);
}
