import { expectedMs, type LatencyEstimate } from '../../common/estimates/latency-fit.js';
import { mostBatchMs } from '../../contracts/batching.js';
import { areAlike, areSameNames } from '../../tensors/alike.js';
import { isTensorType, type ReadFeeds, type Tensor } from '../../tensors/tensor.js';
import {
  isHandled,
  namesMethod,
  type PendingRequest,
  type RequestPayload,
  type RoutedModel,
  rowsOf,
} from '../pending-request.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { ModelBatching } from './model-batching.js';
import type { RoutedGroup } from './routed-dispatch.js';

/** Requests of one dispatch that are alike: they run as one call, or one by one when they cannot be joined. */
export interface PendingGroup {
  readonly joined: boolean;
  readonly requests: PendingRequest[];
  /** Rows along axis 0 of all its requests. */
  rows: number;
}

export interface PendingDispatch {
  readonly groups: readonly PendingGroup[];
  readonly requests: number;
  /** Milliseconds that its calls are expected to take; undefined when that is unknown. */
  expectedMs: number | undefined;
  /** Accepted requests of the deployment when it was given to the replica, its own among them. */
  accepted: number;
  /** Whether a handler answers it, which runs what it likes. */
  readonly isHandled: boolean;
  /** Whether it is a request that lost its replica, and goes alone. */
  readonly isRetry: boolean;
  /** Whether it is a request that names a method of a handler, and goes alone. */
  readonly isMethod: boolean;
  /** The model as it runs with several threads; undefined for a narrow run. */
  wide: RoutedModel | undefined;
  /** What the observer tells of it; undefined when it tells nothing. */
  trace: object | undefined;
}

/** Requests that cannot be joined share a message up to this much expected work. */
const SINGLES_MS = 1;
/** A guess per string, because counting the bytes takes too long. */
const STRING_BYTES = 32;
/** A limit however quick they are, because all their answers come together. */
const MOST_SINGLES = 128;
/** Small tensors of a dispatch are copied on the calling thread, which it must not block. */
const MOST_COPIED_BYTES = 4 * 2 ** 20;
/** Large tensors are joined by the replica, in memory of its own. */
const MOST_JOINED_BYTES = 16 * 2 ** 20;

/** Which requests of a queue a dispatch may take. */
export interface DispatchScope {
  /** The first request to take. Default: the head. */
  readonly from: PendingRequest | undefined;
  /** Whether the request may go where the first goes. */
  mayJoin(request: PendingRequest): boolean;
}

/**
 * Takes the next requests from the queue that go in one message, in their order: at most `most`, and no more than their
 * expected work allows. Takes at least one if there is one.
 */
export function takeDispatch(queue: ModelQueue, most: number, scope?: DispatchScope): PendingDispatch {
  const { batching, times } = queue;
  const estimate = times.calls.estimate();
  const batchMs = batchMsOf(batching, estimate, scope?.from ?? queue.head);
  const mostRows = batching.mostRows(estimate, batchMs);
  const groups: PendingGroup[] = [];
  let totalMs = 0;
  let requests = 0;
  let bytes = 0;
  let copiedBytes = 0;
  for (let head = scope?.from ?? queue.head; head !== undefined && requests < most; ) {
    const { apartBytes, payload } = head;
    // Most requests are for models: this runs for each.
    const isAlone = payload !== undefined && namesMethod(head);
    const rows = batching.isJoined ? rowsOf(head) : 0;
    const isJoined = batching.joins(rows, apartBytes);
    const group = findGroup(groups, head, isJoined);
    const addedMs = estimate === undefined ? 0 : addedMsOf(estimate, rows, isJoined ? group : undefined);
    const ownBytes = bytesOf(head.feeds);
    bytes += ownBytes;
    copiedBytes += ownBytes - apartBytes;
    if (requests > 0) {
      if (scope?.mayJoin(head) === false) break;
      // A shadow must not hold up the request that it shadows.
      if (head.isShadow && groups[0]?.requests[0]?.isShadow !== true) break;
      // What one of a batch runs counts as within all of them: they must be equally deep.
      if (head.payload?.path.length !== groups[0]?.requests[0]?.payload?.path.length) break;
      if (isAlone) break;
      // A request that lost its replica may have ended it, and must not take others along.
      // Without batches a handler takes its requests one by one.
      const isLast = head.payload === undefined ? estimate === undefined : !isJoined;
      if (head.attempts > 0 || isLast || copiedBytes > MOST_COPIED_BYTES) break;
      if (!isJoined && requests >= MOST_SINGLES) break;
      const isEnough = totalMs + addedMs > (isJoined ? batchMs : SINGLES_MS);
      // The time of a single batch is bounded by its rows.
      const mostJoined = apartBytes === 0 ? most : batching.largeJoins.mostRequests(apartBytes);
      const isFull =
        group?.joined === true &&
        (group.rows + rows > mostRows || bytes > MOST_JOINED_BYTES || group.requests.length >= mostJoined);
      if (isFull || (isEnough && !(group?.joined === true && groups.length === 1))) break;
    }
    const next = queue.after(head);
    queue.take(head);
    if (group === undefined) groups.push({ joined: isJoined, requests: [head], rows });
    else {
      group.requests.push(head);
      group.rows += rows;
    }
    totalMs += addedMs;
    requests += 1;
    if (head.attempts > 0 || isAlone) break;
    head = next;
  }
  const [first] = groups[0]?.requests ?? [];
  const isRetry = (first?.attempts ?? 0) > 0;
  // Nothing is given ahead behind a request that may end its replica.
  const isKnown = estimate !== undefined && !isRetry;
  // One literal: what a spread copies would fill the old generation at every request.
  return {
    groups,
    requests,
    expectedMs: isKnown ? totalMs : undefined,
    accepted: requests,
    isHandled: first !== undefined && isHandled(first),
    isRetry,
    isMethod: first !== undefined && namesMethod(first),
    wide: undefined,
    trace: undefined,
  };
}

/** Rows of the largest batch that the model is given at present: one until its first run. */
export function fullBatchRows({ batching, times, head }: ModelQueue): number {
  const estimate = times.calls.estimate();
  return batching.mostRows(estimate, batchMsOf(batching, estimate, head));
}

/**
 * Milliseconds that one replica is expected to take for all waiting requests of the queue; 0 before its first load and
 * run. All are taken to be like the first one.
 */
export function expectedDrainMs({ batching, times, size, head }: ModelQueue): number {
  const estimate = times.calls.estimate();
  if (estimate === undefined || head === undefined || !times.isLoadMeasured) return 0;
  const rowsOfEach = batching.isJoined ? rowsOf(head) : 0;
  if (!batching.joins(rowsOfEach, head.apartBytes)) return size * expectedMs(estimate, Math.max(1, rowsOfEach));
  const { slope, base, tried } = estimate;
  const rows = size * rowsOfEach;
  const batchMs = batchMsOf(batching, estimate, head);
  const triedMs = expectedMs(estimate, tried.size);
  // Nothing is known of larger batches: they may take no longer than the last ones did.
  if (tried.isOpen && tried.size < batching.maxSize && triedMs <= batchMs) {
    return Math.ceil(rows / batching.maxSize) * triedMs;
  }
  const fitting = Math.floor((batchMs - base) / slope);
  return Math.ceil(rows / Math.max(1, Math.min(batching.maxSize, fitting))) * base + rows * slope;
}

/** Milliseconds that a batch may take that begins with this request. */
function batchMsOf(
  { targetLatencyMs }: ModelBatching,
  estimate: LatencyEstimate | undefined,
  first: PendingRequest | undefined,
): number {
  return mostBatchMs(targetLatencyMs, first && estimate, first === undefined ? 1 : rowsOf(first));
}

/** Milliseconds that the request adds to the expected time. @param group which it is joined with, if it is. */
function addedMsOf(estimate: LatencyEstimate, rows: number, group: PendingGroup | undefined): number {
  return group !== undefined && rows > 0 ? estimate.slope * rows : expectedMs(estimate, Math.max(1, rows));
}

/** Tries the last group first, because most requests are like the one before. */
function findGroup(groups: readonly PendingGroup[], head: PendingRequest, isJoined: boolean): PendingGroup | undefined {
  for (let index = groups.length - 1; index >= 0; index -= 1) {
    const group = groups[index] as PendingGroup;
    if (belongs(head, isJoined, group)) return group;
  }
  return undefined;
}

function belongs(request: PendingRequest, isJoined: boolean, group: PendingGroup): boolean {
  const [first] = group.requests;
  if (first === undefined || group.joined !== isJoined || first.checked !== request.checked) return false;
  // The replica may refuse one of its elements, but must not refuse others for it.
  if (!request.checked && isUntyped(request.feeds)) return false;
  return areSameNames(first.outputs, request.outputs) && areAlike(first.feeds, request.feeds, group.joined ? 1 : 0);
}

function isUntyped(feeds: ReadFeeds): boolean {
  return Object.values(feeds).some(({ type }) => !isTensorType(type));
}

function bytesOf(feeds: ReadFeeds): number {
  let bytes = 0;
  for (const name in feeds) {
    const { data } = feeds[name] as Tensor;
    bytes += ArrayBuffer.isView(data) ? data.byteLength : STRING_BYTES * data.length;
  }
  return bytes;
}

/** Returns the group as a replica gets it. */
export function toRoutedGroup({ joined, requests }: PendingGroup): RoutedGroup {
  const [first] = requests;
  return {
    joined: joined && requests.length > 1,
    feeds: requests.map((request) => request.feeds),
    payloads: first?.payload && requests.map(({ payload }) => payload as RequestPayload),
    outputs: first?.outputs,
    checked: first?.checked ?? false,
    hasApart: requests.some(({ apartBytes }) => apartBytes > 0),
  };
}
