import { InfermuxError, show } from '../../common/errors.js';
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

/** The error of a search that has found nothing. */
export function notFound(target: string): InfermuxError {
  return new InfermuxError('MODEL_NOT_FOUND', `no model ${show(target)}, and the finder has found none`);
}
