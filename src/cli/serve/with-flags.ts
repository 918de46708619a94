import { readFileSync } from 'node:fs';
import { type EngineOptions, InfermuxError } from '../../index.js';
import type { ServeConfig } from '../../server/config.js';
import type { ServerOptions } from '../../server/server-options.js';
import { messageOf, quoted } from '../terminal/printable.js';
import type { ServeFlags } from './serve-options.js';

type Defined<T> = { -readonly [K in keyof T]: T[K] };

/** Puts what the flags say over a configuration. */
export function withFlags({ engine = {}, server = {} }: ServeConfig, flags: ServeFlags): Required<ServeConfig> {
  const { models, replicas, isolation, maxModels, loadOnStart, poll, tritonMetrics } = flags;
  const ownEngine: Defined<EngineOptions> = { ...engine };
  if (models !== undefined) ownEngine.models = models;
  if (replicas !== undefined) ownEngine.replicas = replicas;
  if (isolation !== undefined) ownEngine.isolation = isolation;
  if (maxModels !== undefined) ownEngine.maxModelsPerReplica = maxModels;
  if (tritonMetrics !== undefined) ownEngine.metrics = { ...engine.metrics, triton: true };
  if (loadOnStart !== undefined || poll !== undefined) {
    const pollMs = poll === undefined ? {} : { pollMs: poll * 1_000 };
    ownEngine.repository = { ...engine.repository, ...(loadOnStart === undefined ? {} : { loadOnStart }), ...pollMs };
  }
  return { engine: ownEngine, server: serverWith(server, flags) };
}

function serverWith(server: ServerOptions, flags: ServeFlags): ServerOptions {
  const { nodeName, host, admin, cors, logRequests, drainDelay, maxBody } = flags;
  const own: Defined<ServerOptions> = { ...server };
  if (nodeName !== undefined) own.node = nodeName;
  if (host !== undefined) own.host = host;
  if (flags.http === false) own.http = false;
  else if (flags.httpPort !== undefined) own.http = { ...(server.http || {}), port: flags.httpPort };
  if (flags.grpc === false) own.grpc = false;
  else if (flags.grpcPort !== undefined) own.grpc = { ...(server.grpc || {}), port: flags.grpcPort };
  if (admin !== undefined) own.admin = admin;
  if (flags.console === false) own.console = false;
  if (cors !== undefined) own.cors = cors.split(',').map((origin) => origin.trim());
  if (logRequests !== undefined) own.logRequests = true;
  if (drainDelay !== undefined) own.drainDelayMs = drainDelay * 1_000;
  if (maxBody !== undefined) own.limits = { ...server.limits, bodyBytes: maxBody * 2 ** 20 };
  const auth = authWith(flags);
  if (auth !== undefined) own.auth = { ...server.auth, ...auth };
  const { tlsKey: key, tlsCert: cert, tlsCa: ca } = flags;
  if (key !== undefined && cert !== undefined)
    own.tls = {
      key: readPem('--tls-key', key),
      cert: readPem('--tls-cert', cert),
      ...(ca === undefined ? {} : { ca: readPem('--tls-ca', ca) }),
    };
  return own;
}

function authWith({ apiKeys, adminKeys }: ServeFlags): ServerOptions['auth'] {
  if (apiKeys === undefined && adminKeys === undefined) return undefined;
  return {
    ...(apiKeys === undefined ? {} : { keys: { file: apiKeys } }),
    ...(adminKeys === undefined ? {} : { adminKeys: { file: adminKeys } }),
  };
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a file that cannot be read. */
function readPem(flag: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `${flag}: ${quoted(path)} cannot be read: ${messageOf(cause)}`, {
      cause,
    });
  }
}
