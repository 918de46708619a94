import { createHash, type Hash } from 'node:crypto';
import { serialize } from 'node:v8';
import { bytesIn } from '../../common/values/value-bytes.js';
import type { ReadFeeds } from '../../tensors/tensor.js';
import type { PendingRequest } from '../pending-request.js';

type Content = Pick<PendingRequest, 'feeds' | 'payload' | 'outputs'>;

/** Bytes of each array that the quick print has. */
const QUICK_BYTES = 256;

/** A larger value for a handler is not recognised: it would have to be copied as a whole. */
const MOST_PAYLOAD_BYTES = 2 ** 20;

/** What a request is recognised by when it comes again. */
export interface Fingerprint {
  readonly quick: string;
  readonly whole: string;
}

/** Undefined for a request that cannot be recognised, such as a value of a handler that only threads can share. */
export function fingerprintOf(content: Content): Fingerprint | undefined {
  const quick = printOf(content, QUICK_BYTES);
  const whole = printOf(content, Number.POSITIVE_INFINITY);
  return quick === undefined || whole === undefined ? undefined : { quick, whole };
}

/** Whether the request is one of those. Most others differ in their first bytes, so that not all are read. */
export function findFingerprint(known: readonly Fingerprint[], content: Content): Fingerprint | undefined {
  const quick = printOf(content, QUICK_BYTES);
  const alike = known.filter((each) => each.quick === quick);
  if (alike.length === 0) return undefined;
  const whole = printOf(content, Number.POSITIVE_INFINITY);
  return alike.find((each) => each.whole === whole);
}

function printOf({ feeds, payload, outputs }: Content, most: number): string | undefined {
  const hash = createHash('sha256');
  hash.update(JSON.stringify(outputs ?? null));
  try {
    if (payload === undefined) addFeeds(hash, feeds, most);
    else if (bytesIn(payload.value) > MOST_PAYLOAD_BYTES) return undefined;
    else hash.update(serialize([payload.value, payload.terms]));
  } catch {
    return undefined;
  }
  return hash.digest('hex');
}

function addFeeds(hash: Hash, feeds: ReadFeeds, most: number): void {
  for (const name of Object.keys(feeds).sort()) {
    const { type, dims, data } = feeds[name] as ReadFeeds[string];
    hash.update(JSON.stringify([name, type, dims, data.length]));
    if (ArrayBuffer.isView(data)) {
      hash.update(new Uint8Array(data.buffer, data.byteOffset, Math.min(most, data.byteLength)));
    } else hash.update(JSON.stringify(data.slice(0, most)));
  }
}
