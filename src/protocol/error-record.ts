import { type ErrorCode, InfermuxError, messageOf } from '../common/errors.js';

/** An InfermuxError as structured clone carries it. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly stack: string | undefined;
  /** Message of the cause, if there was one. */
  readonly cause: string | undefined;
}

/** Of an error that is not ours, only the message is known to survive; it becomes `INTERNAL`. */
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

/** Of an error of somebody else, which may be anything. */
function readStack(error: unknown): { stack?: string | undefined; cause?: unknown } {
  try {
    const { stack, cause } = error instanceof Error ? error : {};
    return { stack: typeof stack === 'string' ? stack : undefined, cause };
  } catch {
    return {};
  }
}

/** The error again, with the stack of the thread it was thrown in as its cause's stack. */
export function fromErrorRecord(record: ErrorRecord): InfermuxError {
  const cause = new Error(record.cause ?? record.message);
  if (record.stack !== undefined) cause.stack = record.stack;
  const { retryable, retryAfterMs } = record;
  return new InfermuxError(record.code, record.message, { cause, retryable, retryAfterMs });
}
