import { randomBytes } from 'node:crypto';
import { InfermuxError } from '../index.js';

const MOST_ID_CHARACTERS = 128;

/** Other processes have other ones. */
const PREFIX = randomBytes(6).toString('base64url');

let count = 0;

/** Returns a name for a request of this process that no other one has. */
export function nextRequestId(): string {
  count += 1;
  return `${PREFIX}-${count.toString(36)}`;
}

/** Returns the client's name for its request, if it can be logged; otherwise undefined. */
export function givenRequestId(given: unknown): string | undefined {
  const isName = typeof given === 'string' && given.length <= MOST_ID_CHARACTERS && /^[\w.:/+=-]+$/.test(given);
  return isName ? given : undefined;
}

/**
 * Returns a client's key for its request, which is nobody else's; undefined without one.
 *
 * @param given as it is, or in quotes, as the draft of the IETF has it.
 * @param caller what the client proves itself by.
 * @throws InfermuxError `INVALID_ARGUMENT` for one that cannot be taken: the request would run twice.
 */
export function ownKey(given: unknown, caller: unknown): string | undefined {
  if (given === undefined) return undefined;
  const key = givenRequestId(typeof given === 'string' ? given.replace(/^"(.*)"$/, '$1') : given);
  if (key !== undefined) return caller === undefined ? key : `${key} ${String(caller)}`;
  const message = `Idempotency-Key must have up to ${MOST_ID_CHARACTERS} letters, digits and any of . : / + = _ -`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
