import { inspect, types } from 'node:util';
import { cut, printable, printableLines, printableUpTo } from './values/printable.js';
import { isError, isUrl } from './values/realm.js';

/** Every code of an {@link InfermuxError}: its meaning, and whether the same call may succeed later. */
export const ERROR_CODES = {
  INVALID_ARGUMENT: { retryable: false, meaning: 'An option, id or tensor is not of the expected form.' },
  MODEL_NOT_FOUND: { retryable: false, meaning: 'No model of that id or version is registered.' },
  MODEL_ALREADY_EXISTS: { retryable: false, meaning: 'A model of that id is registered already.' },
  MODEL_LOAD_FAILED: { retryable: false, meaning: 'The model could not be loaded; the message has the reason.' },
  FAILED_PRECONDITION: { retryable: false, meaning: 'The call does not fit the present state or configuration.' },
  QUEUE_FULL: { retryable: true, meaning: 'Too many requests wait already; `retryAfterMs` says when to come back.' },
  DEADLINE_EXCEEDED: { retryable: true, meaning: 'The timeout or deadline passed before there was an answer.' },
  CANCELLED: { retryable: false, meaning: "The caller's signal was aborted; `cause` is the signal's reason." },
  INFERENCE_FAILED: {
    retryable: false,
    meaning:
      'onnxruntime rejected the inputs, the run failed, or a handler threw an error; `cause` has the message and stack.',
  },
  REPLICA_FAILED: { retryable: true, meaning: 'The replicas that ran the request failed, or no replica can start.' },
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

/** Most characters of a message and of a stack. A handler may throw an error with a message of any length. */
const MOST_OF_MESSAGE = 8_192;
const MOST_OF_STACK = 16_384;

/**
 * The only class of error that infermux throws or rejects with. Branch on `code`, never on the message. The message can
 * go to a terminal or a log: it is on one line, has at most 8192 characters, and control characters are escaped.
 */
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
  /** Whether the same call may succeed later. */
  readonly retryable: boolean;
  /** Milliseconds after which another try makes sense, if known. */
  readonly retryAfterMs?: number;

  constructor(code: ErrorCode, message: string, options: InfermuxErrorOptions = {}) {
    super(printableUpTo(String(message), MOST_OF_MESSAGE), 'cause' in options ? { cause: options.cause } : undefined);
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
    if (typeof stack === 'string') error.stack = printableStack(stack);
  } catch {
    // The thrown value may throw when it is read: then it has no stack.
  }
  return error;
}

/** Returns a stack that can go to a terminal: of bounded length, and without control characters other than line feeds. */
export function printableStack(stack: string): string {
  return cut(printableLines(cut(stack, MOST_OF_STACK)), MOST_OF_STACK);
}

/** Returns the message of a thrown value, short and on one line, even of a value that throws when it is read. */
export function messageOf(error: unknown): string {
  try {
    const message: unknown = isError(error) ? error.message : undefined;
    const text = typeof message === 'string' ? cut(message, MOST_OF_MESSAGE) : show(error);
    return printableUpTo(text.replace(/\s+/g, ' ').trim(), MOST_OF_MESSAGE);
  } catch {
    return UNSHOWABLE;
  }
}

const UNSHOWABLE = 'something that cannot be shown';

/** Most characters of a text, of a URL, and of any other value in a message: a `data:` URL holds a whole file. */
const MOST_OF_TEXT = 60;
const MOST_OF_URL = 300;
const MOST_OF_VALUE = 1_024;
/** Most elements, keys and names in a message. */
const MOST_SHOWN = 12;
/** `inspect` lists all keys of an object and all indices of an array, however many it prints. */
const MOST_INSPECTED = 256;

const SHOWN = { depth: 0, maxArrayLength: MOST_SHOWN, maxStringLength: MOST_OF_TEXT } as const;

/** Returns any value as error messages show it: short, on one line, without control characters. */
export function show(value: unknown): string {
  if (typeof value === 'string') return printable(JSON.stringify(cut(value, MOST_OF_TEXT)));
  try {
    return printable(isUrl(value) ? value.href.slice(0, MOST_OF_URL) : cut(inspected(value), MOST_OF_VALUE));
  } catch {
    return UNSHOWABLE;
  }
}

function inspected(value: unknown): string {
  if (isHuge(value)) return HUGE;
  if (types.isStringObject(value)) return `[String: ${show(String.prototype.valueOf.call(value))}]`;
  if (types.isNativeError(value)) return `[${value.name}: ${messageOf(value)}]`;
  if (Array.isArray(value)) {
    const { length } = value;
    if (length > MOST_INSPECTED) return `an array of length ${length}`;
    if (!types.isProxy(value) && value.some(isHuge)) return `an array with ${HUGE}`;
  } else if (value !== null && typeof value === 'object') {
    const reason = whyNotInspected(value);
    if (reason !== undefined) return reason;
  }
  // Without `compact: true` the elements of an array come in columns, on many lines.
  return inspect(value, { ...SHOWN, compact: true, breakLength: Number.POSITIVE_INFINITY });
}

const HUGE = 'a bigint of more than 64 bits';

/** Its digits would take long to write. */
function isHuge(value: unknown): boolean {
  return typeof value === 'bigint' && BigInt.asIntN(64, value) !== value && BigInt.asUintN(64, value) !== value;
}

/** What is shown of an object instead of its keys and values; undefined when they are few and short. */
function whyNotInspected(object: object): string | undefined {
  // A view has a key for each element, and is shown with few. The traps of a proxy are not called for a message.
  if (ArrayBuffer.isView(object) || types.isProxy(object)) return undefined;
  let keys = 0;
  for (const key in object) {
    keys += 1;
    if (keys > MOST_INSPECTED) return 'an object with many keys';
    if (key.length > MOST_OF_VALUE) return `an object with a key of ${key.length} characters`;
    if (isHuge(Object.getOwnPropertyDescriptor(object, key)?.value)) return `an object with ${HUGE}`;
  }
  return undefined;
}

/** Returns the first names as messages list them, and how many more there are; `none` for no names. */
export function showNames(names: readonly string[]): string {
  if (names.length === 0) return 'none';
  const shown = names.slice(0, MOST_SHOWN).map(show).join(', ');
  return names.length > MOST_SHOWN ? `${shown} and ${names.length - MOST_SHOWN} more` : shown;
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
