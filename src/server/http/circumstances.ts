import type { FastifyReply, FastifyRequest } from 'fastify';
import { traceContextOf } from '../../contracts/trace-context.js';
import { IDEMPOTENCY_KEY, ONGOING, QUEUE_MS } from '../../open-inference/own-keys.js';
import type { Circumstances } from '../inference/inference.js';
import { type LoadMeter, shownMs } from '../node/node-load.js';
import { ORCA_FORMAT, ORCA_HEADER, orcaHeader } from '../node/orca.js';
import { ownKey } from '../request-id.js';
import { clientSignal } from './connection-signal.js';

/** What the headers of a request say of it. */
export function circumstancesOf(request: FastifyRequest): Circumstances {
  const { headers } = request.raw;
  const { traceparent, tracestate } = headers;
  return {
    signal: clientSignal(request),
    requestId: request.infermuxVisit?.requestId,
    traceContext: traceparent === undefined ? undefined : traceContextOf(traceparent, tracestate),
    idempotencyKey: ownKey(headers[IDEMPOTENCY_KEY], headers.authorization ?? headers['x-api-key']),
  };
}

/** Says in the headers of an answer how long its request waited, and how loaded this node is. */
export function tellLoad(request: FastifyRequest, reply: FastifyReply, load: LoadMeter, queueMs: number): void {
  reply.header(QUEUE_MS, shownMs(queueMs)).header(ONGOING, String(load.ongoing));
  const format = request.raw.headers[ORCA_FORMAT];
  const report = format === undefined ? undefined : orcaHeader(format, load.read());
  if (report !== undefined) reply.header(ORCA_HEADER, report);
}
