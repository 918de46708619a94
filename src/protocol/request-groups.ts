import { bufferPool } from '../tensors/memory/buffer-pool.js';
import { placementOf } from '../tensors/memory/placement.js';
import {
  type CarriedType,
  elementsOf,
  type ReadFeeds,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorFeeds,
} from '../tensors/tensor.js';
import type { RequestGroup, RunMessage } from './messages.js';
import { ALIGNMENT, buffersOf, givenIn, PackingBuffer, type PartedTensor, packedBytes, viewSlice } from './packing.js';

/** The content of a group: the feeds of its requests, which agree as {@link RequestGroup} says. */
export interface GroupFeeds {
  readonly feeds: readonly ReadFeeds[];
  /** Run the requests as one call. */
  readonly joined: boolean;
  readonly outputs: readonly string[] | undefined;
  readonly checked: boolean;
  /** Whether any tensor goes by itself, and not in a copy. */
  readonly hasApart: boolean;
}

/** The feeds of a dispatch as a message carries them. */
export interface PackedGroups {
  readonly groups: RequestGroup[];
  /** Buffers to transfer, if a transfer pays. */
  readonly transfer: ArrayBuffer[];
  /** Tensors that are not copied: they lie in slabs, or are given away. */
  readonly apart: readonly Tensor[];
}

/** Packs copies of small tensors for one message; large ones go as they are. */
export function packGroups(groups: readonly GroupFeeds[]): PackedGroups {
  const apart: Tensor[] = [];
  let bytes = 0;
  for (const { feeds, hasApart } of groups) bytes += hasApart ? bytesBeside(feeds, apart) : bytesOf(feeds);
  const buffer = new PackingBuffer(bytes, bufferPool);
  const packed = groups.map((group) => packGroup(group, buffer));
  if (apart.length === 0) return { groups: packed, transfer: buffer.transfer, apart };
  return { groups: packed, transfer: [...buffer.transfer, ...buffersOf(givenIn(packed))], apart };
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

/** @param apart gets the tensors that are not copied. @returns the bytes that the copies of the others take. */
function bytesBeside(feeds: readonly ReadFeeds[], apart: Tensor[]): number {
  const [first] = feeds;
  let bytes = 0;
  for (const name in first) {
    const { type } = first[name] as Tensor;
    let elements = 0;
    let isBeside = false;
    for (const request of feeds) {
      const tensor = request[name] as Tensor;
      if (placementOf(tensor) === undefined) elements += tensor.data.length;
      else {
        apart.push(tensor);
        isBeside = true;
      }
    }
    // Beside large ones each copy is aligned by itself.
    bytes += packedBytes(type, elements) + (isBeside ? feeds.length * ALIGNMENT : 0);
  }
  return bytes;
}

function packGroup({ feeds, joined, outputs, checked, hasApart }: GroupFeeds, buffer: PackingBuffer): RequestGroup {
  const [first = {}] = feeds;
  const rows = joined ? rowsOf(feeds) : undefined;
  const inputs = Object.entries(first).map(([name, { type, dims: own }]) => {
    const dims = rows === undefined ? own : [totalRows(rows, feeds.length), ...own.slice(1)];
    const tensors = hasApart ? feeds.map((request) => request[name] as Tensor) : [];
    if (tensors.some((tensor) => placementOf(tensor) !== undefined)) return parted(name, type, dims, tensors, buffer);
    const parts = feeds.map((request) => (request[name] as Tensor).data);
    return { name, type, dims, data: buffer.join(type, parts) };
  });
  return { requests: feeds.length, rows, inputs, outputs, checked };
}

function parted(
  name: string,
  type: CarriedType,
  dims: readonly number[],
  tensors: readonly Tensor[],
  buffer: PackingBuffer,
): PartedTensor {
  const given: number[] = [];
  const parts = tensors.map((tensor, index) => {
    const placement = placementOf(tensor);
    if (placement === 'given') given.push(index);
    return placement === undefined ? buffer.join(type, [tensor.data]) : tensor.data;
  });
  return { name, type, dims, parts, given };
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

export function requestsIn({ groups }: RunMessage): number {
  let sum = 0;
  for (const { requests } of groups) sum += requests;
  return sum;
}

export function totalRows(rows: number | readonly number[], requests: number): number {
  return typeof rows === 'number' ? rows * requests : rows.reduce((sum, count) => sum + count, 0);
}

export function rowsAt(rows: number | readonly number[], index: number): number {
  return typeof rows === 'number' ? rows : (rows[index] as number);
}

/**
 * Returns all requests of a batch as the feeds of one call.
 *
 * @param join puts arrays of one type end to end.
 */
export function joinedFeeds({ inputs }: RequestGroup, join: JoinArrays): TensorFeeds {
  const feeds: Record<string, Tensor> = {};
  for (const input of inputs) {
    const { name, type, dims } = input;
    const data = 'parts' in input ? join(type, input.parts) : input.data;
    setProperty(feeds, name, { type, dims, data } as Tensor);
  }
  return feeds;
}

export type JoinArrays = (type: CarriedType, parts: readonly TensorData[]) => TensorData;

/** Returns the feeds of each request, in the memory of the group. */
export function singleFeeds(group: RequestGroup): TensorFeeds[] {
  const { requests, rows, inputs } = group;
  if (requests === 1) return [joinedFeeds(group, (_, [part]) => part as TensorData)];
  const all: Record<string, Tensor>[] = Array.from({ length: requests }, () => ({}));
  for (const input of inputs) {
    const { name, type, dims } = input;
    const elementsPerRow = elementsOf(dims.slice(1));
    const elements = elementsOf(dims);
    let start = 0;
    for (const [index, feeds] of all.entries()) {
      const count = rows === undefined ? undefined : rowsAt(rows, index);
      const end = start + (count === undefined ? elements : count * elementsPerRow);
      const ownDims = count === undefined ? dims : [count, ...dims.slice(1)];
      const data = 'parts' in input ? input.parts[index] : viewSlice(input.data, start, end);
      setProperty(feeds, name, { type, dims: ownDims, data } as Tensor);
      start = end;
    }
  }
  return all;
}
