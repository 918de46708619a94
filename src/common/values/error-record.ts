import { type ErrorCode, InfermuxError, messageOf, printableStack } from '../errors.js';
import { isError } from './realm.js';

/** An InfermuxError in a form that structured clone carries. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly stack: string | undefined;
  /** Message of the cause, if there was one. */
  readonly cause: string | undefined;
}

/**
 * Records an error: its texts have bounded lengths and can be printed. A foreign one becomes `INTERNAL` with its message:
 * nothing else of it is sure to survive.
 */
export function toErrorRecord(error: unknown): ErrorRecord {
  const { code, retryable, retryAfterMs } =
    error instanceof InfermuxError ? error : new InfermuxError('INTERNAL', messageOf(error));
  const { stack, cause } = readStack(error);
  return {
    code,
    message: messageOf(error),
    retryable,
    retryAfterMs,
    stack,
    cause: cause === undefined ? undefined : messageOf(cause),
  };
}

/** Reads the stack and cause of a value that may be anything, and may throw when it is read. */
function readStack(error: unknown): { stack?: string | undefined; cause?: unknown } {
  try {
    const { stack, cause } = isError(error) ? error : {};
    return { stack: typeof stack === 'string' ? printableStack(stack) : undefined, cause };
  } catch {
    return {};
  }
}

/** Restores the error. Its cause has the stack of the thread in which the error was thrown. */
export function fromErrorRecord(record: ErrorRecord): InfermuxError {
  const cause = new Error(record.cause ?? record.message);
  if (record.stack !== undefined) cause.stack = record.stack;
  const { retryable, retryAfterMs } = record;
  return new InfermuxError(record.code, record.message, { cause, retryable, retryAfterMs });
}
