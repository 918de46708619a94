import { bufferPool } from '../tensors/buffer-pool.js';
import { elementsOf, type ReadFeeds, setProperty, type Tensor, type TensorFeeds } from '../tensors/tensor.js';
import type { RequestGroup } from './messages.js';
import { PackingBuffer, packedBytes, viewSlice } from './packing.js';

/** The content of a group: the feeds of its requests, which agree as {@link RequestGroup} says. */
export interface GroupFeeds {
  readonly feeds: readonly ReadFeeds[];
  /** Run the requests as one call. */
  readonly joined: boolean;
  readonly outputs: readonly string[] | undefined;
  readonly checked: boolean;
}

/** Packs copies of the feeds for one message, with the buffers to transfer, if a transfer pays. */
export function packGroups(groups: readonly GroupFeeds[]): { groups: RequestGroup[]; transfer: ArrayBuffer[] } {
  let bytes = 0;
  for (const { feeds } of groups) bytes += bytesOf(feeds);
  const buffer = new PackingBuffer(bytes, bufferPool);
  return { groups: groups.map((group) => packGroup(group, buffer)), transfer: buffer.transfer };
}

function bytesOf(feeds: readonly ReadFeeds[]): number {
  const [first] = feeds;
  let bytes = 0;
  for (const name in first) {
    let elements = 0;
    for (const request of feeds) elements += (request[name] as Tensor).data.length;
    bytes += packedBytes((first[name] as Tensor).type, elements);
  }
  return bytes;
}

function packGroup({ feeds, joined, outputs, checked }: GroupFeeds, buffer: PackingBuffer): RequestGroup {
  const [first = {}] = feeds;
  const rows = joined ? rowsOf(feeds) : undefined;
  const inputs = Object.entries(first).map(([name, { type, dims }]) => ({
    name,
    type,
    dims: rows === undefined ? dims : [totalRows(rows, feeds.length), ...dims.slice(1)],
    data: buffer.join(
      type,
      feeds.map((request) => (request[name] as Tensor).data),
    ),
  }));
  return { requests: feeds.length, rows, inputs, outputs, checked };
}

/** Returns the rows of each request. All inputs of a request have the same, so the first is read. */
function rowsOf(feeds: readonly ReadFeeds[]): number | number[] {
  const rows = feeds.map(rowsIn);
  const [first = 0] = rows;
  return rows.every((count) => count === first) ? first : rows;
}

function rowsIn(feeds: ReadFeeds): number {
  for (const name in feeds) return feeds[name]?.dims[0] ?? 0;
  return 0;
}

export function totalRows(rows: number | readonly number[], requests: number): number {
  return typeof rows === 'number' ? rows * requests : rows.reduce((sum, count) => sum + count, 0);
}

export function rowsAt(rows: number | readonly number[], index: number): number {
  return typeof rows === 'number' ? rows : (rows[index] as number);
}

/** Returns all requests of a batch as the feeds of one call. */
export function joinedFeeds({ inputs }: RequestGroup): TensorFeeds {
  const feeds: Record<string, Tensor> = {};
  for (const { name, type, dims, data } of inputs) setProperty(feeds, name, { type, dims, data } as Tensor);
  return feeds;
}

/** Returns the feeds of each request, in the memory of the group. */
export function singleFeeds(group: RequestGroup): TensorFeeds[] {
  const { requests, rows, inputs } = group;
  if (requests === 1) return [joinedFeeds(group)];
  const all: Record<string, Tensor>[] = Array.from({ length: requests }, () => ({}));
  for (const { name, type, dims, data } of inputs) {
    const elementsPerRow = elementsOf(dims.slice(1));
    const elements = elementsOf(dims);
    let start = 0;
    for (const [index, feeds] of all.entries()) {
      const count = rows === undefined ? undefined : rowsAt(rows, index);
      const end = start + (count === undefined ? elements : count * elementsPerRow);
      const ownDims = count === undefined ? dims : [count, ...dims.slice(1)];
      setProperty(feeds, name, { type, dims: ownDims, data: viewSlice(data, start, end) } as Tensor);
      start = end;
    }
  }
  return all;
}
