import { inspect } from 'node:util';
import { isError, isUrl } from './values/realm.js';

/** Every code of an {@link InfermuxError}: its meaning, and whether the same call may succeed later. */
export const ERROR_CODES = {
  INVALID_ARGUMENT: { retryable: false, meaning: 'An option, id or tensor is not of the expected form.' },
  MODEL_NOT_FOUND: { retryable: false, meaning: 'No model of that id or version is registered.' },
  MODEL_ALREADY_EXISTS: { retryable: false, meaning: 'A model of that id is registered already.' },
  MODEL_LOAD_FAILED: { retryable: false, meaning: 'The model could not be loaded; the message has the reason.' },
  FAILED_PRECONDITION: { retryable: false, meaning: 'The call does not fit the present state or configuration.' },
  QUEUE_FULL: { retryable: true, meaning: 'Too many requests wait already; `retryAfterMs` says when to come back.' },
  DEADLINE_EXCEEDED: { retryable: true, meaning: 'The time-out or deadline passed before the answer was there.' },
  CANCELLED: { retryable: false, meaning: "The caller's signal was aborted; `cause` is the signal's reason." },
  INFERENCE_FAILED: {
    retryable: false,
    meaning: 'onnxruntime refused or failed the run, or a handler did; `cause` is its error.',
  },
  REPLICA_FAILED: { retryable: true, meaning: 'Worker threads died under the request, or none can start.' },
  ENGINE_CLOSED: { retryable: false, meaning: 'The engine is closing or closed.' },
  INTERNAL: { retryable: false, meaning: 'A defect in infermux; please report it.' },
} as const;

export type ErrorCode = keyof typeof ERROR_CODES;

export interface InfermuxErrorOptions {
  readonly cause?: unknown;
  /** Milliseconds after which another try is worth it. */
  readonly retryAfterMs?: number | undefined;
  /** Default: as {@link ERROR_CODES} says for the code. */
  readonly retryable?: boolean | undefined;
}

/** The same in every copy of this package that is loaded in the process. */
const BRAND = Symbol.for('infermux.InfermuxError');

/** The only class of error that infermux throws or rejects with. Branch on `code`, never on the message. */
export class InfermuxError extends Error {
  static {
    Object.defineProperty(InfermuxError.prototype, BRAND, { value: true });
  }

  /**
   * Whether the value is an InfermuxError of this copy of the package or of another one: a handler or a test runner may
   * load the package once more. False for a value that throws when it is read.
   */
  static override [Symbol.hasInstance]<T>(this: new (...given: never) => T, value: unknown): value is T {
    try {
      // biome-ignore lint/complexity/noThisInStatic: a subclass inherits this method.
      if (this !== (InfermuxError as unknown)) return Function.prototype[Symbol.hasInstance].call(this, value);
      return value !== null && typeof value === 'object' && BRAND in value;
    } catch {
      return false;
    }
  }

  override readonly name = 'InfermuxError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;

  constructor(code: ErrorCode, message: string, options: InfermuxErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.retryable = options.retryable ?? ERROR_CODES[code].retryable;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = options.retryAfterMs;
  }
}

/** Returns the error itself if it is an InfermuxError, otherwise one of code `INTERNAL` around it. */
export function toInfermuxError(error: unknown): InfermuxError {
  if (error instanceof InfermuxError) return error;
  return new InfermuxError('INTERNAL', messageOf(error), { cause: error });
}

/** Returns the same error for another caller, with its own stack. */
export function cloneError({ code, message, cause, retryable, retryAfterMs }: InfermuxError): InfermuxError {
  return new InfermuxError(code, message, { cause, retryable, retryAfterMs });
}

/** Gives the error the stack of the thrown value, if that has one, so that its place can be found. */
export function withStackOf(thrown: unknown, error: InfermuxError): InfermuxError {
  try {
    const { stack } = thrown as Error;
    if (typeof stack === 'string') error.stack = stack;
  } catch {
    // The thrown value may throw when it is read: then it has no stack.
  }
  return error;
}

/** Returns the message of a thrown value, on one line, even of a value that throws when it is read. */
export function messageOf(error: unknown): string {
  try {
    const message: unknown = isError(error) ? error.message : undefined;
    return (typeof message === 'string' ? message : show(error)).replace(/\s+/g, ' ').trim();
  } catch {
    return 'something that cannot be shown';
  }
}

/** Most characters of a URL in a message: a `data:` URL holds a whole file. */
const MOST_OF_URL = 300;

const SHOWN = { depth: 0, maxArrayLength: 12, maxStringLength: 60 } as const;

/** Returns any value as error messages show it: short, on one line. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  try {
    if (isUrl(value)) return value.href.slice(0, MOST_OF_URL);
    // Without `compact: true` the elements of an array come in columns, on many lines.
    return inspect(value, { ...SHOWN, compact: true, breakLength: Number.POSITIVE_INFINITY });
  } catch {
    return 'something that cannot be shown';
  }
}

/**
 * Returns what the work returns; an error that is not an InfermuxError becomes one of code `INVALID_ARGUMENT`. Use it
 * to read a caller's values, whose getters and proxies may throw.
 */
export function readingInput<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    throw unreadableInput(what, cause);
  }
}

/** Returns the error that {@link readingInput} throws in place of `cause`. */
export function unreadableInput(what: string, cause: unknown): InfermuxError {
  if (cause instanceof InfermuxError) return cause;
  return new InfermuxError('INVALID_ARGUMENT', `${what} could not be read: ${messageOf(cause)}`, { cause });
}
