import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import type { Logger } from 'pino';
import { type Address, parseAddress, textOf } from '../../cluster/addresses.js';
import { NodeAnnouncer } from '../../cluster/membership/announcer.js';
import type { NodeRecord } from '../../cluster/membership/node-record.js';
import { checkNatsPackages, checkNatsUrl, connectNats } from '../../cluster/nats/nats-connection.js';
import { InfermuxError } from '../../index.js';
import type { InferenceServer } from '../../server/server.js';
import { isLoopback } from '../../server/server-options.js';
import { messageOf, quoted } from '../terminal/printable.js';

/** A node's place among others. */
export interface Membership {
  /** Tells the others that the node answers what it has, and is to get no more. */
  drain(): Promise<void>;
  /** Takes the node out. */
  leave(): Promise<void>;
}

const ANY = ['0.0.0.0', '::'];
/** Time to tell NATS that the node ends: that must not hold up the end. */
const LEAVE_MS = 500;
const RETRY_MS = 500;

/**
 * Announces a server to the proxies that follow a NATS server.
 *
 * @param host by which others reach this one; undefined: that on which it listens, or its first address.
 * @param isSecure whether it has TLS.
 * @throws InfermuxError `INVALID_ARGUMENT` for a wrong URL, and without REST; `FAILED_PRECONDITION` without NATS's client.
 */
export async function joinCluster(
  url: string,
  server: InferenceServer,
  { host, isSecure, log }: { readonly host: string | undefined; readonly isSecure: boolean; readonly log: Logger },
): Promise<Membership> {
  checkNatsUrl(url);
  await checkNatsPackages();
  const { http, grpc } = server;
  if (http === undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', '--nats needs REST: proxies ask for the state of a node by it');
  }
  if (host !== undefined) checkHost(host);
  const shown = (address: Address) =>
    textOf({ host: host ?? (ANY.includes(address.host) ? firstAddress() : address.host), port: address.port });
  const addresses = { http: shown(http), grpc: grpc === undefined ? undefined : shown(grpc), tls: isSecure };
  if (isLoopback(parseAddress(addresses.http).host)) {
    log.warn(
      { ...addresses },
      'announced with an address of this machine: use --host 0.0.0.0 or --advertise if others should reach it',
    );
  }
  let isEnding = false;
  let connection: NatsConnection | undefined;
  let announcer: NodeAnnouncer | undefined;
  const trouble = (message: string) => log.warn(`NATS cannot be told of this node: ${message}; trying again`);
  const saying = {
    trouble,
    warn: (message: string) => log.warn(message),
    moved: (slot: number) => log.info({ slot, ...addresses }, 'announced in another slot'),
  };
  const record = () => ({ ...recordOf(server, addresses), ...(isEnding ? { ready: false, draining: true } : {}) });
  const soon = (done: Promise<void> | undefined) => Promise.race([done, sleep(LEAVE_MS, undefined, { ref: false })]);
  // A node starts without NATS, too: it is announced as soon as that is there.
  void announce();
  return {
    async drain() {
      isEnding = true;
      await soon(announcer?.tell());
    },
    async leave() {
      isEnding = true;
      // What is not taken out expires.
      await soon(announcer?.leave());
      await connection?.close();
    },
  };

  /**
   * Announces the node until it ends, over as many connections as that takes: a server may also refuse it for a while. Never
   * rejects.
   */
  async function announce(): Promise<void> {
    for (let last = ''; !isEnding; ) {
      try {
        connection = await connectNats(url, `infermux node ${server.node}`);
        // It may have begun to end meanwhile.
        if (isEnding) break;
        announcer = await NodeAnnouncer.start(connection, record, saying, announcer?.last);
        const { slot } = announcer;
        if (slot !== undefined) log.info({ slot, ...addresses }, 'announced by NATS');
        last = '';
        const cause = await connection.closed();
        if (cause) throw cause;
      } catch (cause) {
        if (messageOf(cause) !== last) trouble(messageOf(cause));
        last = messageOf(cause);
        await announcer?.leave();
        await sleep(RETRY_MS, undefined, { ref: false });
      }
    }
    await announcer?.leave();
    await connection?.close();
  }
}

/** @throws InfermuxError `INVALID_ARGUMENT`. */
function checkHost(host: string): void {
  try {
    parseAddress(textOf({ host, port: 1 }));
  } catch {
    const message = `--advertise must be a host name or an address, without a port, got ${quoted(host)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
}

function recordOf(server: InferenceServer, addresses: Pick<NodeRecord, 'http' | 'grpc' | 'tls'>): NodeRecord {
  const { node, version, ready, load, models } = server.report();
  const { ongoing, queued, cpu } = load;
  return {
    ...{ node, version, ready, ...addresses, load: { ongoing, queued, cpu } },
    models: Object.fromEntries(models.map((model) => [model.name, model.versions.map((each) => each.version)])),
    loaded: models.flatMap(({ name, loaded }) => (loaded.length > 0 ? [name] : [])),
  };
}

/** The first address of this machine that others may reach. */
function firstAddress(): string {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const outer = addresses.filter(({ internal }) => !internal);
  const { address = '127.0.0.1' } = outer.find(({ family }) => family === 'IPv4') ?? outer[0] ?? {};
  return address;
}
