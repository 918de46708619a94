import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NatsConnection } from '@nats-io/transport-node';
import type { Logger } from 'pino';
import { parseAddress } from '../../cluster/addresses.js';
import { NodeAnnouncer } from '../../cluster/membership/announcer.js';
import type { NodeRecord } from '../../cluster/membership/node-record.js';
import { checkNatsPackages, checkNatsUrl, connectNats } from '../../cluster/nats/nats-connection.js';
import { InfermuxError } from '../../index.js';
import type { InferenceServer } from '../../server/server.js';
import { type Address, isLoopback } from '../../server/server-options.js';
import { messageOf } from '../terminal/printable.js';

/** A node's place among others. */
export interface Membership {
  /** Tells the others that the node takes no more requests. */
  leave(): Promise<void>;
}

const ANY = ['0.0.0.0', '::'];
/** Time to tell NATS that the node ends. */
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
  const shown = (address: Address) => {
    const own = host ?? (ANY.includes(address.host) ? firstAddress() : address.host);
    return `${own.includes(':') ? `[${own}]` : own}:${address.port}`;
  };
  const addresses = { http: shown(http), grpc: grpc === undefined ? undefined : shown(grpc), tls: isSecure };
  if (isLoopback(parseAddress(addresses.http).host)) {
    log.warn(
      { ...addresses },
      'announced with an address of this machine: say --host 0.0.0.0, or --advertise, if others are to reach it',
    );
  }
  let hasLeft = false;
  let connection: NatsConnection | undefined;
  let announcer: NodeAnnouncer | undefined;
  const trouble = (message: string) => log.warn(`NATS cannot be told of this node: ${message}; trying again`);
  // A node starts without NATS, too: it is announced as soon as that is there.
  const announcing = announce();
  announcing.catch((cause: unknown) => log.error(`this node is not announced: ${messageOf(cause)}`));
  return {
    async leave() {
      hasLeft = true;
      // NATS must not hold up the end. What is not taken out expires.
      await Promise.race([announcer?.leave(), sleep(LEAVE_MS, undefined, { ref: false })]);
      await connection?.close();
    },
  };

  async function announce(): Promise<void> {
    for (let tries = 1; connection === undefined && !hasLeft; tries += 1) {
      try {
        connection = await connectNats(url, `infermux node ${server.node}`);
      } catch (cause) {
        if (tries === 1) trouble(messageOf(cause));
        await sleep(RETRY_MS, undefined, { ref: false });
      }
    }
    if (hasLeft || connection === undefined) {
      await connection?.close();
      return;
    }
    connection.closed().then((error) => {
      if (error) log.error(`the connection to NATS has ended: ${error.message}`);
    });
    announcer = await NodeAnnouncer.start(connection, () => recordOf(server, addresses), trouble);
    if (hasLeft) await announcer.leave();
    else if (announcer.slot !== undefined) log.info({ slot: announcer.slot, ...addresses }, 'announced by NATS');
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
