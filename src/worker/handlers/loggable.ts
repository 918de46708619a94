import { messageOf, show } from '../../common/errors.js';
import { clone } from '../../common/values/clone.js';
import { isError, isUrl } from '../../common/values/realm.js';
import type { LogFields } from '../../contracts/handler.js';

/** Returns fields that can go to the calling thread: a line of the log must not fail the request that writes it. */
export function loggableFields(fields: LogFields): LogFields {
  if (isError(fields)) return { err: messageOf(fields) };
  try {
    return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, loggableValue(value)]));
  } catch (cause) {
    return { unreadable: messageOf(cause) };
  }
}

export function loggableText(message: unknown): string {
  return typeof message === 'string' ? message : show(message);
}

function loggableValue(value: LogFields[string]): LogFields[string] {
  // A clone of a URL is an empty object.
  if (isUrl(value)) return show(value);
  try {
    return clone(value);
  } catch {
    return show(value);
  }
}
