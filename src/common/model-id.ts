import { InfermuxError, show } from './errors.js';

/** Most characters of an id; a file's name has at most 255. */
const MOST_CHARACTERS = 1_024;

/** @throws InfermuxError `INVALID_ARGUMENT` when the id is not a string, is empty or too long. */
export function checkModelId(id: unknown): asserts id is string {
  if (typeof id !== 'string') throw new InfermuxError('INVALID_ARGUMENT', `model id must be a string, got ${show(id)}`);
  if (id === '') throw new InfermuxError('INVALID_ARGUMENT', 'model id cannot be empty');
  if (id.length <= MOST_CHARACTERS) return;
  const message = `model id must have at most ${MOST_CHARACTERS} characters, got ${id.length}: ${show(id)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
