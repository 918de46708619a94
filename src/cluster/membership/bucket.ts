import type { KV } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { InfermuxError } from '../../common/errors.js';
import { makeOnce, natsPackage } from '../nats/nats-connection.js';

/** The bucket of the nodes. Its keys are `slot.1`, `slot.2` and so on: each node has one. */
export const BUCKET = 'infermux-nodes';
/** Most nodes of a cluster. */
export const MOST_SLOTS = 1_000;
/** How long a node counts that is not heard of. */
export const TTL_MS = 4_000;
/** How often a node is heard of. */
export const BEAT_MS = 1_000;

/** Opens the bucket, and makes it if it is not there. @throws InfermuxError `FAILED_PRECONDITION` for one that somebody made otherwise. */
export async function openBucket(connection: NatsConnection): Promise<KV> {
  const { Kvm } = await natsPackage(() => import('@nats-io/kv'));
  const bucket = await makeOnce(() => new Kvm(connection).create(BUCKET, { ttl: TTL_MS, history: 1 }));
  const { ttl } = await bucket.status();
  if (ttl === TTL_MS) return bucket;
  // Nodes that have died would keep their slots.
  const message = `the bucket ${BUCKET} keeps its values for ${ttl} ms, and ${TTL_MS} are needed: delete it, and it is created again`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

/** Time for the server to list the slots. */
const LIST_MS = 2_000;

/**
 * Lists the slots that have a record, or had one until a moment ago. The bucket's own list of keys waits for a message after which none
 * is pending, or for silence: where records are written all the time, and one is while it is listed, neither may come.
 */
export async function listSlots(connection: NatsConnection): Promise<number[]> {
  const prefix = `$KV.${BUCKET}.`;
  const asked = JSON.stringify({ subjects_filter: `${prefix}slot.*` });
  const answer = await connection.request(`$JS.API.STREAM.INFO.KV_${BUCKET}`, asked, { timeout: LIST_MS });
  const { state, error } = answer.json<StreamAnswer>();
  if (error !== undefined) throw new Error(error.description);
  const slots = Object.keys(state?.subjects ?? {}).map((subject) => slotOf(subject.slice(prefix.length)));
  return slots.filter((slot) => slot !== undefined);
}

/** What JetStream answers: https://docs.nats.io/reference/reference-protocols/nats_api_reference. */
interface StreamAnswer {
  readonly state?: { readonly subjects?: Readonly<Record<string, number>> };
  readonly error?: { readonly description: string };
}

export const keyOf = (slot: number) => `slot.${slot}`;

/** Returns the number of a key; undefined for a key of something else. */
export function slotOf(key: string): number | undefined {
  const [, digits] = /^slot\.([1-9]\d{0,3})$/.exec(key) ?? [];
  return digits === undefined ? undefined : Number(digits);
}
