import { hasRoom } from '../../routers/by-model/spill.js';
import type { QueueOf } from '../model-copies.js';
import type { Candidate } from './candidate.js';

/** A session is long unused when it was unused for this long and for the time of this many loads. */
const UNUSED_MS = 10_000;
const UNUSED_LOADS = 10;
const NONE: readonly string[] = [];

/**
 * Returns the keys of models that may be evicted for a model of this size: none when there is room; undefined when even
 * that makes no room for it.
 *
 * @param spareOf keys of the replica's models that may be evicted.
 */
export function spareFor(
  candidate: Candidate,
  bytes: number,
  queueOf: QueueOf,
  spareOf: () => readonly string[],
): readonly string[] | undefined {
  if (hasRoom(candidate, bytes)) return NONE;
  const { freeModels, freeBytes } = candidate;
  const spare = spareOf();
  const spareBytes = spare.reduce((sum, modelKey) => sum + (queueOf(modelKey)?.model.bytes ?? 0), 0);
  return freeModels + spare.length >= 1 && freeBytes + spareBytes >= bytes ? spare : undefined;
}

/** Whether the replica has not used its session of the model for long. */
export function isLongUnused({ usedAt }: Candidate, modelKey: string, queueOf: QueueOf, now: number): boolean {
  const loadMs = queueOf(modelKey)?.times.loadMs ?? 0;
  return now - (usedAt.get(modelKey) ?? 0) > Math.max(UNUSED_MS, UNUSED_LOADS * loadMs);
}
