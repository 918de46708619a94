import { InfermuxError, show } from './errors.js';

/** The deployment that the engine's own options are for. */
export const DEFAULT_DEPLOYMENT = 'default';

/** @throws InfermuxError `INVALID_ARGUMENT` for what cannot be a deployment's name. */
export function checkDeploymentName(name: unknown): asserts name is string {
  if (typeof name === 'string' && /^[\w.-]{1,64}$/.test(name)) return;
  const expected = 'up to 64 letters, digits, dots, dashes and underscores';
  throw new InfermuxError('INVALID_ARGUMENT', `a deployment's name must be ${expected}, got ${show(name)}`);
}
