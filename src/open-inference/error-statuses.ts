import { type ErrorCode, InfermuxError, toInfermuxError } from '../common/errors.js';

/** Status codes of gRPC, by their names. */
export const GRPC_STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

export interface Statuses {
  readonly http: number;
  readonly grpc: number;
}

/** The status of each code of an {@link InfermuxError}, over HTTP and over gRPC. */
export const ERROR_STATUSES: Readonly<Record<ErrorCode, Statuses>> = {
  INVALID_ARGUMENT: { http: 400, grpc: GRPC_STATUS.INVALID_ARGUMENT },
  MODEL_NOT_FOUND: { http: 404, grpc: GRPC_STATUS.NOT_FOUND },
  MODEL_ALREADY_EXISTS: { http: 409, grpc: GRPC_STATUS.ALREADY_EXISTS },
  MODEL_LOAD_FAILED: { http: 503, grpc: GRPC_STATUS.UNAVAILABLE },
  FAILED_PRECONDITION: { http: 400, grpc: GRPC_STATUS.FAILED_PRECONDITION },
  QUEUE_FULL: { http: 429, grpc: GRPC_STATUS.RESOURCE_EXHAUSTED },
  DEADLINE_EXCEEDED: { http: 504, grpc: GRPC_STATUS.DEADLINE_EXCEEDED },
  CANCELLED: { http: 499, grpc: GRPC_STATUS.CANCELLED },
  INFERENCE_FAILED: { http: 422, grpc: GRPC_STATUS.INVALID_ARGUMENT },
  REPLICA_FAILED: { http: 503, grpc: GRPC_STATUS.UNAVAILABLE },
  ENGINE_CLOSED: { http: 503, grpc: GRPC_STATUS.UNAVAILABLE },
  INTERNAL: { http: 500, grpc: GRPC_STATUS.INTERNAL },
};

/** Why a request is refused that the engine has not seen. */
export type Refusal =
  | 'not found'
  | 'method'
  | 'too large'
  | 'unauthenticated'
  | 'forbidden'
  | 'unsupported'
  | 'unprocessable';

const REFUSALS: Readonly<Record<Refusal, Statuses & { readonly code: ErrorCode }>> = {
  'not found': { http: 404, grpc: GRPC_STATUS.NOT_FOUND, code: 'INVALID_ARGUMENT' },
  method: { http: 405, grpc: GRPC_STATUS.UNIMPLEMENTED, code: 'INVALID_ARGUMENT' },
  'too large': { http: 413, grpc: GRPC_STATUS.RESOURCE_EXHAUSTED, code: 'INVALID_ARGUMENT' },
  unauthenticated: { http: 401, grpc: GRPC_STATUS.UNAUTHENTICATED, code: 'FAILED_PRECONDITION' },
  forbidden: { http: 403, grpc: GRPC_STATUS.PERMISSION_DENIED, code: 'FAILED_PRECONDITION' },
  unprocessable: { http: 422, grpc: GRPC_STATUS.INVALID_ARGUMENT, code: 'MODEL_LOAD_FAILED' },
  unsupported: { http: 501, grpc: GRPC_STATUS.UNIMPLEMENTED, code: 'FAILED_PRECONDITION' },
};

const refusals = new WeakMap<InfermuxError, Refusal>();

/** Returns an error with the status of the refusal in place of that of its code. */
export function refusal(reason: Refusal, message: string): InfermuxError {
  return refused(reason, new InfermuxError(REFUSALS[reason].code, message));
}

/** Gives an error the status of the refusal: its cause is in the request. */
export function refused(reason: Refusal, error: InfermuxError): InfermuxError {
  refusals.set(error, reason);
  return error;
}

/** Returns the status for an error. */
export function statusesOf(error: InfermuxError): Statuses {
  const reason = refusals.get(error);
  if (reason !== undefined) return REFUSALS[reason];
  // A proxy would try again what cannot succeed.
  if (error.code === 'MODEL_LOAD_FAILED' && !error.retryable) return ERROR_STATUSES.INTERNAL;
  // A handler may throw errors with codes of its own.
  return Object.hasOwn(ERROR_STATUSES, error.code) ? ERROR_STATUSES[error.code] : ERROR_STATUSES.INTERNAL;
}

/** What a body says of an error. The protocol has `error` alone; its clients ignore the rest. */
export interface ErrorBody {
  readonly error: string;
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
}

export function errorBodyOf(cause: unknown): ErrorBody {
  const { message: error, code, retryable, retryAfterMs } = toInfermuxError(cause);
  return { error, code, retryable, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
}
