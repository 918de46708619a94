import {
  checkOptions,
  forLists,
  hasMethods,
  isBoolean,
  isInteger,
  isMilliseconds,
  isObject,
  isOneOf,
  isText,
  type Rule,
  satisfies,
} from '../common/checks.js';
import { type EngineLogger, InfermuxError } from '../index.js';
import type { NonFinite } from '../open-inference/rest/infer-answer.js';
import { checkKeys } from './api-keys.js';
import { checkTls, type TlsOptions } from './tls-options.js';

/** An address to listen on. */
export interface ListenOptions {
  /** Default: the server's `host`; for `admin`, `'127.0.0.1'`. */
  readonly host?: string | undefined;
  /** Default: 8000 for `http`, 8001 for `grpc`, 8002 for `admin`. 0: any free port. */
  readonly port?: number | undefined;
}

/** Keys of the server. */
export interface AuthOptions {
  /**
   * Keys: each request needs one in the header `Authorization: Bearer <key>` or `X-API-Key`, or in gRPC metadata with
   * these names. Either a list, or a file with one key on each line, which is read again when it changes. Health checks
   * need no key.
   */
  readonly keys?: readonly string[] | { readonly file: string } | undefined;
  /**
   * Keys for the admin part; they are also valid for everything else. Set `keys` too: with `adminKeys` alone, all other
   * requests need no key. Default: `keys`.
   */
  readonly adminKeys?: readonly string[] | { readonly file: string } | undefined;
}

/** Limits of requests and connections. */
export interface LimitOptions {
  /** Maximum bytes of a body or a gRPC message, after decompression. Default 64 MiB. */
  readonly bodyBytes?: number | undefined;
  /** Maximum bytes of the bodies of all requests in progress. Default 1 GiB. */
  readonly totalBodyBytes?: number | undefined;
  /** Maximum bytes of a request's headers, or of a call's metadata. Default 16 KiB. */
  readonly headerBytes?: number | undefined;
  /** Maximum number of connections of each protocol. Default 20,000. */
  readonly connections?: number | undefined;
  /** Maximum number of requests in progress. Default 8,192. */
  readonly requests?: number | undefined;
  /** Maximum milliseconds for a client to send the headers. Default 30,000. */
  readonly headersTimeoutMs?: number | undefined;
  /** Maximum milliseconds for a client to send a whole request. Default 120,000. */
  readonly requestTimeoutMs?: number | undefined;
  /** Maximum milliseconds in which a client reads nothing of its answer. Default 60,000. */
  readonly writeTimeoutMs?: number | undefined;
  /** Milliseconds that an idle connection stays open. Default 75,000, which is longer than in most proxies. */
  readonly keepAliveTimeoutMs?: number | undefined;
}

/** Options of the REST API, in a server or as a plugin. */
export interface RestOptions {
  /**
   * The admin part: requests that load, unload and add models. Default: true if only this machine can connect (but not
   * for what a proxy on it passes on) or if there are keys, otherwise false.
   */
  readonly admin?: boolean | undefined;
  /**
   * The console: a page at `/console` that shows what the engine does. The page needs no key, but its data does.
   * Default: true for a server, false for the plugin.
   */
  readonly console?: boolean | undefined;
  /** Keys of the server. Default: none, everybody may send requests. */
  readonly auth?: AuthOptions | undefined;
  /** Origins whose pages may send requests, for example `https://app.example.com`; `'*'` for all. Default: none. */
  readonly cors?: readonly string[] | undefined;
  /** Limits of requests and connections. */
  readonly limits?: LimitOptions | undefined;
  /**
   * How NaN and infinity are written in JSON. `'literal'`: as `NaN` and `Infinity`, like Triton; `'null'`: as null;
   * `'error'`: the request fails. Default `'literal'`.
   */
  readonly nonFinite?: NonFinite | undefined;
  /** A pino logger, `console`, or another object with these four methods. Default: no log. */
  readonly logger?: EngineLogger | undefined;
  /** Whether to log each request, with one line at level `info`. Default false. */
  readonly logRequests?: boolean | undefined;
  /**
   * Name of this node in the header `X-Infermux-Node` of each answer. Default: the host name, and the port of REST
   * unless it is a plugin.
   */
  readonly node?: string | undefined;
}

export interface ServerOptions extends Omit<RestOptions, 'admin'> {
  /** The address to listen on. Default `'127.0.0.1'`: this machine only. `'0.0.0.0'` or `'::'`: all addresses. */
  readonly host?: string | undefined;
  /** REST, metrics and health. Default: port 8000. `false`: none. */
  readonly http?: ListenOptions | false | undefined;
  /** gRPC. Default: port 8001. `false`: none. */
  readonly grpc?: ListenOptions | false | undefined;
  /** The admin part, as in {@link RestOptions}; or a separate address for it; the other ports then do not have it. */
  readonly admin?: boolean | ListenOptions | undefined;
  /** Default: none; requests and answers are not encrypted. */
  readonly tls?: TlsOptions | undefined;
  /**
   * Milliseconds for which `close()` still accepts requests while the server reports that it is not ready, so that
   * proxies can notice. Default 0.
   */
  readonly drainDelayMs?: number | undefined;
}

export type ResolvedLimits = { readonly [K in keyof LimitOptions]-?: number };

export interface ResolvedRest {
  readonly admin: boolean;
  /** The admin part is there, without keys, because only this machine can connect: nobody asked for it. */
  readonly isAdminLocal: boolean;
  readonly console: boolean;
  readonly auth: AuthOptions;
  readonly cors: readonly string[];
  readonly limits: ResolvedLimits;
  readonly nonFinite: NonFinite;
  readonly logger: EngineLogger | undefined;
  readonly logRequests: boolean;
  readonly node: string | undefined;
}

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ResolvedServer extends ResolvedRest {
  readonly http: Address | undefined;
  readonly grpc: Address | undefined;
  /** Where the admin part listens apart from the rest. */
  readonly adminAddress: Address | undefined;
  readonly tls: TlsOptions | undefined;
  readonly drainDelayMs: number;
}

const MOST_BYTES = 2 ** 31 - 1;
const HTTP_PORT = 8_000;
const GRPC_PORT = 8_001;
const ADMIN_PORT = 8_002;

const isBytes = isInteger({ lowest: 1, highest: MOST_BYTES });
const isCount = isInteger({ lowest: 1 });
const isTime = isMilliseconds({ lowest: 1 });

const LIMITS: Readonly<Record<keyof LimitOptions, readonly [Rule, number]>> = {
  bodyBytes: [isBytes, 64 * 2 ** 20],
  totalBodyBytes: [isCount, 2 ** 30],
  headerBytes: [isBytes, 16_384],
  connections: [isCount, 20_000],
  requests: [isCount, 8_192],
  headersTimeoutMs: [isTime, 30_000],
  requestTimeoutMs: [isTime, 120_000],
  writeTimeoutMs: [isTime, 60_000],
  keepAliveTimeoutMs: [isTime, 75_000],
};

const LISTEN_RULES: Readonly<Record<keyof ListenOptions, Rule>> = {
  host: isText,
  port: isInteger({ lowest: 0, highest: 65_535 }),
};

/** Keys are looked at apart: no message may show one. */
const areKeys = forLists(() => true, 'keys');

const AUTH_RULES: Readonly<Record<keyof AuthOptions, Rule>> = { keys: areKeys, adminKeys: areKeys };

const areOrigins = forLists(
  (value) => Array.isArray(value) && value.every((origin) => origin === '*' || isOrigin(origin)),
  "a list of origins like 'https://app.example.com', or ['*']",
);

/** It goes into headers. */
export const isNodeName = satisfies(
  (value) => typeof value === 'string' && /^[\w.:-]{1,128}$/.test(value),
  'up to 128 letters, digits, dots, colons, hyphens and underscores',
);

const REST_RULES: Readonly<Record<keyof RestOptions, Rule>> = {
  admin: isBoolean,
  console: isBoolean,
  auth: isObject,
  cors: areOrigins,
  limits: isObject,
  nonFinite: isOneOf(['literal', 'null', 'error']),
  logger: hasMethods('a logger', ['debug', 'info', 'warn', 'error']),
  logRequests: isBoolean,
  node: isNodeName,
};

const isListen = satisfies(
  (value) => typeof value === 'boolean' || isObject(value) === undefined,
  'true, false or { host, port }',
);

const RULES: Readonly<Record<keyof ServerOptions, Rule>> = {
  ...REST_RULES,
  host: isText,
  http: isListen,
  grpc: isListen,
  admin: isListen,
  tls: isObject,
  drainDelayMs: isMilliseconds({ lowest: 0 }),
};

/** What whoever mounts the REST side has if the options do not say. Keys allow the admin part anyway. */
interface RestDefaults {
  readonly admin: boolean;
  readonly console: boolean;
}

/** @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value. */
export function resolveRest(where: string, options: RestOptions, byDefault: RestDefaults): ResolvedRest {
  const {
    admin,
    console = byDefault.console,
    auth = {},
    cors = [],
    limits = {},
    nonFinite = 'literal',
    logger,
    logRequests = false,
    node,
  } = checkOptions(where, options, REST_RULES);
  const checkedAuth = checkOptions(`${where}.auth`, auth, AUTH_RULES);
  for (const list of ['keys', 'adminKeys'] as const) checkKeys(`${where}.auth.${list}`, checkedAuth[list]);
  const hasKeys = checkedAuth.keys !== undefined || checkedAuth.adminKeys !== undefined;
  return {
    ...{ cors, nonFinite, logger, logRequests, node, console, auth: checkedAuth },
    limits: resolveLimits(`${where}.limits`, limits),
    admin: admin ?? (byDefault.admin || hasKeys),
    isAdminLocal: admin === undefined && byDefault.admin && !hasKeys,
  };
}

/** @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value. */
export function resolveServer(options: ServerOptions): ResolvedServer {
  const where = 'server';
  const { host = '127.0.0.1', http, grpc, admin, tls, drainDelayMs = 0, ...rest } = checkOptions(where, options, RULES);
  if (tls !== undefined) checkTls(`${where}.tls`, tls);
  const isApart = typeof admin === 'object';
  const adminAddress = isApart ? addressOf(`${where}.admin`, admin, '127.0.0.1', ADMIN_PORT) : undefined;
  const addresses = {
    http: addressOf(`${where}.http`, http, host, HTTP_PORT),
    grpc: addressOf(`${where}.grpc`, grpc, host, GRPC_PORT),
  };
  if (addresses.http === undefined && addresses.grpc === undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', 'server: http and grpc must not both be false');
  }
  const isLocal = Object.values(addresses).every((address) => address === undefined || isLoopback(address.host));
  const restOptions = { ...rest, ...(typeof admin === 'boolean' ? { admin } : {}) };
  const own = resolveRest(where, restOptions, { admin: isLocal && !isApart, console: true });
  return { ...own, ...addresses, admin: own.admin && !isApart, adminAddress, tls, drainDelayMs };
}

function resolveLimits(where: string, options: LimitOptions): ResolvedLimits {
  const rules = Object.fromEntries(Object.entries(LIMITS).map(([name, [rule]]) => [name, rule]));
  const checked = checkOptions(where, options, rules);
  const resolve = ([name, [, byDefault]]: [string, readonly [Rule, number]]) => [
    name,
    checked[name as keyof LimitOptions] ?? byDefault,
  ];
  return Object.fromEntries(Object.entries(LIMITS).map(resolve)) as ResolvedLimits;
}

function addressOf(
  where: string,
  given: ListenOptions | boolean | undefined,
  host: string,
  port: number,
): Address | undefined {
  if (given === false) return undefined;
  const options = typeof given === 'object' ? checkOptions(where, given, LISTEN_RULES) : {};
  return { host: options.host ?? host, port: options.port ?? port };
}

/** Whether nobody outside of this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

function isOrigin(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value;
}
