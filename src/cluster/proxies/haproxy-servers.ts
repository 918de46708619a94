import { parseAddress } from '../addresses.js';

/** A server of HAProxy, as its runtime socket tells it. */
export interface HaproxyServer {
  readonly backend: string;
  readonly server: string;
  readonly address: string;
  readonly port: number;
  /** Where the probes go, if not to the port. */
  readonly checkPort: number;
  /** Whether it takes no requests because somebody said so. */
  readonly isDisabled: boolean;
  /** Whether its probes have failed. */
  readonly isDown: boolean;
}

/** A node as HAProxy is to know it: with an address of IP. */
export interface PlacedNode {
  readonly http: string;
  readonly grpc: string | undefined;
}

/** Bits of the administrative state: maintenance, forced, inherited, or for want of an address. */
const MAINTENANCE = 0x01 | 0x02 | 0x20;

/** The operational state of a server whose probes have failed. */
const STOPPED = 0;

/** Reads the answer to `show servers state`. */
export function readServers(text: string): HaproxyServer[] {
  const lines = text.split('\n');
  const head = lines.find((line) => line.startsWith('# '));
  if (head === undefined) return [];
  const columns = head.slice(2).trim().split(' ');
  const at = (name: string) => columns.indexOf(name);
  const [backend, server, address, port, checkPort, admin, state] = [
    ...(['be_name', 'srv_name', 'srv_addr', 'srv_port', 'srv_check_port', 'srv_admin_state', 'srv_op_state'] as const),
  ].map(at) as [number, number, number, number, number, number, number];
  return lines
    .slice(lines.indexOf(head) + 1)
    .map((line) => line.trim().split(' '))
    .filter((cells) => cells.length === columns.length)
    .map((cells) => ({
      backend: cells[backend] as string,
      server: cells[server] as string,
      address: cells[address] as string,
      port: Number(cells[port]),
      checkPort: Number(cells[checkPort]),
      isDisabled: (Number(cells[admin]) & MAINTENANCE) !== 0,
      isDown: Number(cells[state]) === STOPPED,
    }));
}

/**
 * Returns the commands that make the servers those that are there: the server `n3` of each backend is the node of slot 3.
 *
 * @param nodes by slot.
 * @param isGone whether a server of a slot without a node is to get no requests; otherwise it is left as it is.
 */
export function commandsFor(
  servers: readonly HaproxyServer[],
  nodes: ReadonlyMap<number, PlacedNode>,
  isGone: (slot: number, server: HaproxyServer) => boolean = () => true,
): string[] {
  return servers.flatMap((server) => {
    const [, digits] = /^n(\d+)$/.exec(server.server) ?? [];
    if (digits === undefined) return [];
    const node = nodes.get(Number(digits));
    const isGrpc = /^grpc(_|$)/.test(server.backend);
    const wanted = isGrpc ? node?.grpc : node?.http;
    const set = `set server ${server.backend}/${server.server}`;
    if (node === undefined || wanted === undefined) {
      return server.isDisabled || !(node !== undefined || isGone(Number(digits), server)) ? [] : [`${set} state maint`];
    }
    const { host, port } = parseAddress(wanted);
    const isThere = server.address === host && server.port === port;
    return [
      ...(isThere ? [] : [`${set} addr ${host} port ${port}`]),
      // The probes are those of REST.
      ...(isGrpc && server.checkPort !== parseAddress(node.http).port
        ? [`${set} check-port ${parseAddress(node.http).port}`]
        : []),
      ...(server.isDisabled ? [`${set} state ready`] : []),
    ];
  });
}
