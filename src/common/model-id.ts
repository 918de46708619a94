import { InfermuxError, show } from './errors.js';

/** @throws InfermuxError `INVALID_ARGUMENT` when the id is not a string, or is empty. */
export function checkModelId(id: unknown): asserts id is string {
  if (typeof id !== 'string') throw new InfermuxError('INVALID_ARGUMENT', `model id must be a string, got ${show(id)}`);
  if (id === '') throw new InfermuxError('INVALID_ARGUMENT', 'model id cannot be empty');
}
