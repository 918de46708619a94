import { InfermuxError } from '../../common/errors.js';
import { type Address, textOf } from '../addresses.js';

/** A node as proxies know it. */
export interface ProxiedNode {
  readonly http: Address;
  /** Undefined where the proxy has no gRPC. */
  readonly grpc: Address | undefined;
}

/** What a configuration is made for. */
export interface ProxySettings {
  readonly nodes: readonly ProxiedNode[];
  /** Where the proxy listens for REST. */
  readonly bind: Address;
  /** Where it listens for gRPC; undefined: it does not. */
  readonly bindGrpc: Address | undefined;
  /** File of the CA that signed the certificates of the nodes; undefined: they have no TLS. */
  readonly nodeCa?: string | undefined;
}

/**
 * What comes before the model in a path of REST, and after it: regular expressions as in PCRE and RE2. A model's name may have
 * slashes, where it is that of a model in a deployment.
 */
export const BEFORE_MODEL = '^/v2/(repository/([^/]+/)?)?models/';
export const AFTER_MODEL = '(/versions/[^/]+)?(/(infer|generate|generate_stream|ready|config|stats|load|unload))?/?$';

/** Most nodes of a configuration: more are a typing error. */
const MOST_NODES = 1_000;

/**
 * Pairs the addresses of REST and of gRPC, in their order.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` when they do not go together.
 */
export function pairNodes(http: readonly Address[], grpc: readonly Address[] | undefined): ProxiedNode[] {
  if (http.length > MOST_NODES) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `--nodes names ${http.length} nodes, and at most ${MOST_NODES} are possible`,
    );
  }
  if (grpc !== undefined && grpc.length !== http.length) {
    const message = `--nodes names ${http.length} and --grpc ${grpc.length}: --grpc must have the gRPC address of each node, in the same order`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return http.map((address, index) => ({ http: address, grpc: grpc?.[index] }));
}

/** HAProxy multiplies the number by 2^12, and keeps 32 bits. */
const MOST_ID = 2 ** 20 - 1;

/**
 * Returns a number for each node that follows from its address alone: HAProxy puts a server on its ring by it. So the
 * order of the list, and who else is on it, do not matter.
 */
export function serverIds(nodes: readonly ProxiedNode[]): number[] {
  const taken = new Set<number>();
  const byText = new Map<string, number>();
  // The order of the list must not decide who gives way.
  for (const text of nodes.map(({ http }) => textOf(http)).sort()) {
    let id = (fnv1a(text) % MOST_ID) + 1;
    while (taken.has(id)) id = (id % MOST_ID) + 1;
    taken.add(id);
    byText.set(text, id);
  }
  return nodes.map(({ http }) => byText.get(textOf(http)) as number);
}

/** FNV-1a of 32 bits: http://www.isthe.com/chongo/tech/comp/fnv/. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
