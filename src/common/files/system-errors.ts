import { type ErrorCode, InfermuxError, messageOf } from '../errors.js';

/** Codes of the errors that say that nothing is at a path. */
const NOT_THERE: readonly unknown[] = ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG'];

/** Whether a call of the file system failed because nothing is at the path. */
export function isNotThere(error: unknown): boolean {
  return NOT_THERE.includes((error as NodeJS.ErrnoException | undefined)?.code);
}

/** Whether the system could not say what is at a path: too many open files, no permission, a broken disk, and so on. */
export function isUnanswered(error: unknown): boolean {
  return typeof (error as NodeJS.ErrnoException | undefined)?.syscall === 'string' && !isNotThere(error);
}

/** Returns undefined for an error that says that nothing is at the path. @throws every other error. */
export function undefinedIfNotThere(error: unknown): undefined {
  if (!isNotThere(error)) throw error;
}

/**
 * Returns the error for a failed look at a file. It is retryable when the system could not answer.
 *
 * @param what names the model or the models.
 */
export function lookFailed(code: ErrorCode, what: string, cause: unknown): InfermuxError {
  if (cause instanceof InfermuxError) return cause;
  if (!isUnanswered(cause)) return new InfermuxError(code, `${what}: ${messageOf(cause)}`, { cause });
  const message = `${what}: ${messageOf(cause)}; the system could not answer, so this says nothing about the files: try again later`;
  return new InfermuxError(code, message, { cause, retryable: true });
}
