import { ERROR_CODES, type ErrorCode, InfermuxError } from '../../common/errors.js';
import { ERROR_STATUSES, GRPC_STATUS } from '../../open-inference/error-statuses.js';

const HTTP_CODES: Readonly<Record<number, ErrorCode>> = {
  400: 'INVALID_ARGUMENT',
  401: 'FAILED_PRECONDITION',
  403: 'FAILED_PRECONDITION',
  404: 'MODEL_NOT_FOUND',
  405: 'FAILED_PRECONDITION',
  409: 'MODEL_ALREADY_EXISTS',
  413: 'INVALID_ARGUMENT',
  422: 'INFERENCE_FAILED',
  429: 'QUEUE_FULL',
  499: 'CANCELLED',
  501: 'FAILED_PRECONDITION',
  502: 'REPLICA_FAILED',
  503: 'REPLICA_FAILED',
  504: 'DEADLINE_EXCEEDED',
};

const GRPC_CODES: Readonly<Record<number, ErrorCode>> = {
  ...Object.fromEntries(Object.entries(ERROR_STATUSES).map(([code, { grpc }]) => [grpc, code as ErrorCode])),
  [GRPC_STATUS.INVALID_ARGUMENT]: 'INVALID_ARGUMENT',
  [GRPC_STATUS.UNAVAILABLE]: 'REPLICA_FAILED',
  [GRPC_STATUS.UNIMPLEMENTED]: 'FAILED_PRECONDITION',
  [GRPC_STATUS.UNAUTHENTICATED]: 'FAILED_PRECONDITION',
  [GRPC_STATUS.PERMISSION_DENIED]: 'FAILED_PRECONDITION',
};

/** What a server says of an error, in the words of its protocol. */
export interface WireError {
  readonly message: string;
  /** The code, if it is a server of this package. */
  readonly code?: unknown;
  readonly retryAfterMs?: number | undefined;
}

/** Makes an error of a status of HTTP. */
export function errorOfHttp(status: number, { message, code, retryAfterMs }: WireError): InfermuxError {
  return new InfermuxError(known(code) ?? HTTP_CODES[status] ?? 'INTERNAL', message, { retryAfterMs });
}

/** Makes an error of a status of gRPC. */
export function errorOfGrpc(status: number, { message, code, retryAfterMs }: WireError): InfermuxError {
  return new InfermuxError(known(code) ?? GRPC_CODES[status] ?? 'INTERNAL', message, { retryAfterMs });
}

function known(code: unknown): ErrorCode | undefined {
  return typeof code === 'string' && Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : undefined;
}

/** The server cannot be reached, or has gone away. @param wasSent whether the server may have begun the request. */
export class Unreachable extends InfermuxError {
  readonly wasSent: boolean;

  constructor(message: string, cause: unknown, wasSent: boolean) {
    super('REPLICA_FAILED', message, { cause });
    this.wasSent = wasSent;
  }
}
