import { parseAddress } from '../addresses.js';

/** What a node tells the others, in one key of the bucket. */
export interface NodeRecord {
  readonly node: string;
  /** `host:port` of REST. */
  readonly http: string;
  /** `host:port` of gRPC; undefined without it. */
  readonly grpc?: string | undefined;
  /** Whether both are secured by TLS. */
  readonly tls?: boolean | undefined;
  readonly version: string;
  readonly ready: boolean;
  /** It answers what it has, and is to get no more. */
  readonly draining?: boolean | undefined;
  readonly load: { readonly ongoing: number; readonly queued: number; readonly cpu: number };
  /** Versions by model; undefined where they are too many for a message: ask the node. */
  readonly models?: Readonly<Record<string, readonly number[]>> | undefined;
  /** Models that are loaded. */
  readonly loaded?: readonly string[] | undefined;
}

/** Bytes of a value: NATS takes a megabyte by default. */
const MOST_BYTES = 512 * 1_024;
const MOST_NAME = 128;

export function encodeRecord(record: NodeRecord): string {
  const text = JSON.stringify(record);
  if (Buffer.byteLength(text) <= MOST_BYTES) return text;
  const { models: _, loaded: __, ...rest } = record;
  return JSON.stringify(rest);
}

/** Reads a record; undefined for what no node wrote. */
export function decodeRecord(bytes: Uint8Array): NodeRecord | undefined {
  try {
    const record = JSON.parse(new TextDecoder().decode(bytes)) as NodeRecord;
    const { node, http, grpc, load } = record;
    if (typeof node !== 'string' || node.length > MOST_NAME || typeof load?.ongoing !== 'number') return undefined;
    for (const address of grpc === undefined ? [http] : [http, grpc]) parseAddress(address);
    return record;
  } catch {
    return undefined;
  }
}
