import { randomBytes } from 'node:crypto';

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
