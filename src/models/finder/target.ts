import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import { versionOf } from '../sources/model-folder.js';

/** A name of a model in requests. */
export interface Target {
  readonly id: string;
  readonly version: number | undefined;
}

/** Reads a name; undefined when it is no name of a model. */
export function targetOf(target: string): Target | undefined {
  const at = target.lastIndexOf('@');
  if (at === -1) return { id: target, version: undefined };
  const [id, version] = [target.slice(0, at), versionOf(target.slice(at + 1))];
  return id === '' || id.includes('@') || version === undefined ? undefined : { id, version };
}

/** The error of a search that has found nothing. @param place where the finder has said that it is. */
export function notFound(target: string, place?: string): InfermuxError {
  const why =
    place === undefined ? 'the finder has found none' : `there is none at ${place}, where the finder looks for it`;
  return new InfermuxError('MODEL_NOT_FOUND', `no model ${show(target)}: ${why}`);
}

/** What a finder gets wrong is no fault of the request that names the model. */
export function failureOf(cause: unknown): InfermuxError {
  const { code, message } = toInfermuxError(cause);
  if (code !== 'INVALID_ARGUMENT') return toInfermuxError(cause);
  return new InfermuxError('MODEL_LOAD_FAILED', message, { cause, retryable: false });
}
