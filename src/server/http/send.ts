import type { ServerResponse } from 'node:http';
import { deflate, gzip } from 'node:zlib';
import type { FastifyReply } from 'fastify';
import { toInfermuxError } from '../../common/errors.js';
import { errorBodyOf, statusesOf } from '../../open-inference/error-statuses.js';
import type { AnswerBody } from '../../open-inference/rest/infer-answer.js';
import { HEADER_LENGTH } from '../../open-inference/rest/infer-request.js';
import { visitOf } from './visit.js';

/** A shorter body is not worth its compression. */
const LEAST_COMPRESSED = 1_024;

/** A longer list of encodings is not looked at. */
const MOST_ENCODINGS_CHARACTERS = 256;

const COMPRESSORS = { gzip, deflate } as const;

/** Sends an error in the protocol's form, with its status. Of an answer that has begun it can only cut the rest off. */
export function sendError(reply: FastifyReply, cause: unknown): void {
  if (reply.sent || reply.raw.headersSent) {
    if (!reply.raw.writableEnded) reply.raw.destroy();
    return;
  }
  const error = toInfermuxError(cause);
  const { http } = statusesOf(error);
  const { retryAfterMs } = error;
  if (retryAfterMs !== undefined) reply.header('retry-after', Math.max(1, Math.ceil(retryAfterMs / 1_000)));
  else if (http === 503 || http === 429) reply.header('retry-after', 1);
  if (http === 401) reply.header('www-authenticate', 'Bearer');
  // The rest of the body is not worth receiving.
  if (!reply.request.raw.complete && http !== 499) reply.header('connection', 'close');
  reply
    .code(http)
    .header('content-type', 'application/json')
    .send(JSON.stringify(errorBodyOf(error)));
}

/** Sends a value as JSON. */
export function sendJson(reply: FastifyReply, value: unknown): void {
  sendText(reply, 'application/json', JSON.stringify(value));
}

/** Sends a text: as it is, or compressed as the client accepts. */
export function sendText(reply: FastifyReply, type: string, text: string): void {
  reply.header('content-type', type);
  if (sendCompressed(reply, text, text.length)) return;
  reply.send(text);
  if (text.length > LEAST_WATCHED) visitOf(reply.request).watchAnswer();
}

/** Sends the answer to an inference request: as it is, or compressed as the client accepts. */
export function sendAnswer(reply: FastifyReply, { text, parts, bytes, jsonBytes }: AnswerBody): void {
  if (jsonBytes === undefined && text !== undefined) {
    sendText(reply, 'application/json', text);
    return;
  }
  reply.header('content-type', jsonBytes === undefined ? 'application/json' : 'application/octet-stream');
  if (jsonBytes !== undefined) reply.header(HEADER_LENGTH, String(jsonBytes));
  if (sendCompressed(reply, parts, bytes)) return;
  if (parts.length === 1) {
    reply.send(parts[0]);
    if (bytes > LEAST_WATCHED) visitOf(reply.request).watchAnswer();
    return;
  }
  reply.header('content-length', String(bytes));
  const raw = beginRaw(reply);
  visitOf(reply.request).watchAnswer();
  raw.cork();
  for (const part of parts) raw.write(part);
  raw.end();
}

/** Compresses and sends a body. @returns false, having done nothing, when that is not wanted or not worth it. */
function sendCompressed(reply: FastifyReply, body: string | readonly Uint8Array[], bytes: number): boolean {
  const encoding = bytes < LEAST_COMPRESSED ? undefined : acceptedEncoding(reply.request.headers['accept-encoding']);
  if (encoding === undefined) return false;
  COMPRESSORS[encoding](typeof body === 'string' ? body : Buffer.concat(body), (error, compressed) => {
    if (error !== null) {
      sendError(reply, error);
      return;
    }
    reply.header('content-encoding', encoding).header('vary', 'accept-encoding').send(compressed);
    visitOf(reply.request).watchAnswer();
  });
  return true;
}

/** Fewer bytes have room in the buffers of the system, and their answer is over at once. */
const LEAST_WATCHED = 16_384;

/** Takes the response over from fastify, with the headers that were set. */
export function beginRaw(reply: FastifyReply): ServerResponse {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, reply.getHeaders() as Record<string, string>);
  return raw;
}

/** Returns the compression that a client accepts; undefined for none. */
function acceptedEncoding(header: string | undefined): keyof typeof COMPRESSORS | undefined {
  if (header === undefined || header.length > MOST_ENCODINGS_CHARACTERS) return undefined;
  const accepted = header
    .toLowerCase()
    .split(',')
    .map((item) => item.trim().split(/\s*;\s*q=/))
    .filter(([, quality]) => quality === undefined || Number(quality) > 0)
    .map(([name]) => name);
  if (accepted.includes('gzip')) return 'gzip';
  return accepted.includes('deflate') ? 'deflate' : undefined;
}
