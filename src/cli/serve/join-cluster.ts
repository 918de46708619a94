import { networkInterfaces } from 'node:os';
import type { Logger } from 'pino';
import { NodeAnnouncer } from '../../cluster/membership/announcer.js';
import type { NodeRecord } from '../../cluster/membership/node-record.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { InfermuxError } from '../../index.js';
import type { InferenceServer } from '../../server/server.js';
import type { Address } from '../../server/server-options.js';

/** A node's place among others. */
export interface Membership {
  /** Tells the others that the node takes no more requests. */
  leave(): Promise<void>;
}

const ANY = ['0.0.0.0', '::'];

/**
 * Announces a server to the proxies that follow a NATS server.
 *
 * @param host that others reach this one by; undefined: that which it listens on, or its first address.
 * @throws InfermuxError as `connectNats`; `INVALID_ARGUMENT` where nobody could reach it.
 */
export async function joinCluster(
  url: string,
  server: InferenceServer,
  host: string | undefined,
  log: Logger,
): Promise<Membership> {
  const { http, grpc } = server;
  if (http === undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', '--nats needs REST: proxies ask for the state of a node by it');
  }
  const shown = (address: Address) => {
    const own = host ?? (ANY.includes(address.host) ? firstAddress() : address.host);
    return `${own.includes(':') ? `[${own}]` : own}:${address.port}`;
  };
  const addresses = { http: shown(http), grpc: grpc === undefined ? undefined : shown(grpc) };
  const connection = await connectNats(url, `infermux node ${server.node}`);
  const trouble = (message: string) => log.warn(`NATS cannot be told of this node: ${message}; trying again`);
  const announcer = await NodeAnnouncer.start(connection, () => recordOf(server, addresses), trouble);
  log.info({ slot: announcer.slot, ...addresses }, 'announced by NATS');
  return {
    async leave() {
      await announcer.leave();
      await connection.close();
    },
  };
}

function recordOf(server: InferenceServer, addresses: Pick<NodeRecord, 'http' | 'grpc'>): NodeRecord {
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
