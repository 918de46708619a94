import { messageOf, show } from '../../common/errors.js';
import { clone } from '../../common/values/clone.js';
import { cut } from '../../common/values/printable.js';
import { isError, isUrl } from '../../common/values/realm.js';
import type { LogFields } from '../../contracts/handler.js';

/** Most fields of a line, and most characters of a text in it. */
const MOST_FIELDS = 256;
const MOST_CHARACTERS = 65_536;

/** Returns fields that can go to the calling thread: a line of the log must not fail the request that writes it. */
export function loggableFields(fields: LogFields): LogFields {
  if (isError(fields)) return { err: messageOf(fields) };
  try {
    const entries = Object.entries(fields);
    if (entries.length > MOST_FIELDS)
      return { unreadable: `${entries.length} fields; at most ${MOST_FIELDS} are logged` };
    return Object.fromEntries(entries.map(([name, value]) => [name, loggableValue(value)]));
  } catch (cause) {
    return { unreadable: messageOf(cause) };
  }
}

export function loggableText(message: unknown): string {
  return typeof message === 'string' ? cut(message, MOST_CHARACTERS) : show(message);
}

function loggableValue(value: LogFields[string]): LogFields[string] {
  if (typeof value === 'string') return cut(value, MOST_CHARACTERS);
  // A clone of a URL is an empty object.
  if (isUrl(value)) return show(value);
  try {
    return clone(value);
  } catch {
    return show(value);
  }
}
