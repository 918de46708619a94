import { InfermuxError, messageOf } from '../../common/errors.js';
import { isSameData } from '../../common/values/realm.js';
import { checkData } from '../../contracts/session-settings.js';

/**
 * Copies the value through JSON, as it goes to other threads and into a checkpoint.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a value that JSON changes.
 */
export function readUserConfig(where: string, userConfig: unknown): unknown {
  if (userConfig === undefined) return undefined;
  let copy: unknown;
  try {
    checkData(userConfig);
    const json = JSON.stringify(userConfig) as string | undefined;
    copy = json === undefined ? undefined : JSON.parse(json);
  } catch (cause) {
    const message = `${where} must be what JSON can carry: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
  if (isSameData(copy, userConfig)) return copy;
  const message = `${where} must be what JSON can carry, and comes out of it as ${JSON.stringify(copy)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
