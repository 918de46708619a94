import { type Batching, checkBatching } from '../batching.js';
import { InfermuxError, show } from '../errors.js';

/** What infermux reads of a `model.json`; whatever else it holds is for people. */
export interface Manifest {
  /** A positive integer. */
  readonly version?: number;
  /** How its requests are joined; goes before the engine's option. */
  readonly batching?: Batching;
}

/**
 * @param where names the file in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` when the text is no manifest.
 */
export function parseManifest(text: string, where: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must hold an object, got ${show(value)}`);
  }
  const { version, batching } = value as Record<string, unknown>;
  if (version !== undefined && (!Number.isSafeInteger(version) || (version as number) < 1)) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where}: version must be a positive integer, got ${show(version)}`);
  }
  return {
    ...(version === undefined ? {} : { version: version as number }),
    ...(batching === undefined ? {} : { batching: checkBatching(`${where}: batching`, batching) }),
  };
}
