import { InfermuxError, show } from '../../common/errors.js';

/** Name of the deployment that the engine's own options configure. */
export const DEFAULT_DEPLOYMENT = 'default';

/** @throws InfermuxError `INVALID_ARGUMENT` for a value that cannot be a deployment's name. */
export function checkDeploymentName(name: unknown): asserts name is string {
  if (typeof name === 'string' && /^[a-z\d][\w.-]{0,63}$/i.test(name)) return;
  const expected = 'up to 64 letters, digits, dots, dashes and underscores, the first a letter or a digit';
  throw new InfermuxError('INVALID_ARGUMENT', `a deployment's name must be ${expected}, got ${show(name)}`);
}
