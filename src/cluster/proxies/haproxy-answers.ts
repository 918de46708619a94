import type { ErrorCode } from '../../common/errors.js';
import { ERROR_STATUSES } from '../../open-inference/error-statuses.js';
import { CODE_METADATA, RETRY_AFTER_METADATA } from '../../open-inference/own-keys.js';

interface OwnAnswer {
  readonly status: number;
  readonly code: ErrorCode;
  readonly error: string;
  readonly retryAfterS?: number;
}

/** HAProxy's own answers. Clients try again what another node may answer. */
const OWN_ANSWERS: readonly OwnAnswer[] = [
  { status: 408, code: 'INVALID_ARGUMENT', error: 'the request did not come in time' },
  { status: 502, code: 'REPLICA_FAILED', error: 'the connection to the node broke before its answer' },
  { status: 503, code: 'REPLICA_FAILED', error: 'no node can take the request', retryAfterS: 1 },
  // It is not tried again.
  { status: 504, code: 'DEADLINE_EXCEEDED', error: 'the node did not answer in time' },
];

/** As nodes answer over REST. */
export const REST_ANSWERS = OWN_ANSWERS.map(({ status, code, error, retryAfterS }) => {
  const after = retryAfterS === undefined ? '' : ` hdr Retry-After ${retryAfterS}`;
  return `  http-error status ${status} content-type application/json string '${JSON.stringify({ error, code })}'${after}\n`;
}).join('');

/** As nodes answer over gRPC. An answer without a body is one that gRPC's own retry policies try again. */
export const GRPC_ANSWERS = OWN_ANSWERS.map(({ status, code, error, retryAfterS }) => {
  const after = retryAfterS === undefined ? '' : ` hdr ${RETRY_AFTER_METADATA} ${retryAfterS * 1_000}`;
  const metadata = `hdr grpc-status ${ERROR_STATUSES[code].grpc} hdr grpc-message "${error}" hdr ${CODE_METADATA} ${code}`;
  return `  http-error status ${status} ${metadata}${after}\n`;
}).join('');
