import { isIP } from 'node:net';
import cors from '@fastify/cors';
import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import { InfermuxError } from '../../index.js';
import { refusal } from '../../open-inference/error-statuses.js';
import type { ServerParts } from '../server-parts.js';
import { addRest, type RestAreas } from './rest.js';
import { sendError } from './send.js';
import { isTooFarAhead, Visit } from './visit.js';

/** Headers that browsers must be allowed to send and to read. */
const EXPOSED = [
  ...['Inference-Header-Content-Length', 'X-Request-Id', 'Retry-After'],
  ...['X-Infermux-Node', 'X-Infermux-Queue-Ms', 'X-Infermux-Ongoing'],
];
const ALLOWED = [
  ...[
    'Authorization',
    'Content-Type',
    'Idempotency-Key',
    'Inference-Header-Content-Length',
    'traceparent',
    'tracestate',
  ],
  ...['X-API-Key', 'X-Infermux-Model', 'X-Request-Id'],
];

/** Adds the REST side to a fastify instance, or to a part of one. */
export async function addRestSide(fastify: FastifyInstance, parts: ServerParts, areas: RestAreas): Promise<void> {
  const { options } = parts;
  fastify.removeAllContentTypeParsers();
  // Clients send any content type, and some none. The routes read the stream. Fastify reads a type that is not named here
  // anew for each request.
  fastify.addContentTypeParser(['application/json', 'application/octet-stream', '*'], (_request, payload, done) =>
    done(null, payload),
  );
  fastify.setErrorHandler((error, request, reply) => sendError(reply, errorOf(error, request)));
  fastify.setNotFoundHandler((request, reply) =>
    sendError(reply, refusal('not found', `nothing is at ${request.method} ${pathOf(request)}`)),
  );
  if (options.cors.length > 0) {
    const origin = options.cors.includes('*') ? '*' : [...options.cors];
    await fastify.register(cors, {
      origin,
      exposedHeaders: EXPOSED,
      allowedHeaders: ALLOWED,
      methods: ['GET', 'POST'],
    });
  }
  fastify.decorateRequest('infermuxVisit', undefined);
  // Without promises: there is nothing to wait for.
  fastify.addHook('onRequest', (request, reply, done) => {
    // What has been read of the connection still comes here.
    if (isTooFarAhead(request, reply)) return;
    request.infermuxVisit = new Visit(parts, request, reply);
    try {
      const { access } = parts;
      const { area = 'inference' } = request.routeOptions.config;
      if (!access.isOpen) access.check(area, (name) => headerOf(request, name));
      const { origin } = request.raw.headers;
      const isKeyed = access.hasKeys && area !== 'health';
      if (origin !== undefined) checkOrigin(origin, request.host, options.cors, isKeyed);
    } catch (error) {
      sendError(reply, error);
      return;
    }
    done();
  });
  addRest(fastify, parts, areas);
}

/**
 * Refuses what a page of another site sends by the browser of somebody who can reach this server: the browser asks no
 * one before a simple POST.
 */
function checkOrigin(origin: string, host: string, allowed: readonly string[], isKeyed: boolean): void {
  if (allowed.includes('*') || allowed.includes(origin)) return;
  const own = URL.canParse(origin) ? new URL(origin) : undefined;
  // Any name can be made to stand for this machine, so a page's own host says nothing unless it is an address, or the
  // page has sent a key.
  if (own?.host === host && (isKeyed || isAddress(own.hostname))) return;
  throw refusal('forbidden', `pages of ${origin} may not send requests: add the origin to the option cors`);
}

function isAddress(hostname: string): boolean {
  return hostname === 'localhost' || isIP(hostname.replace(/^\[|\]$/g, '')) > 0;
}

function headerOf(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}

function pathOf({ url }: FastifyRequest): string {
  return url.split('?', 1)[0] as string;
}

/** Makes an error of this package of one of fastify. */
function errorOf(error: unknown, request: FastifyRequest): unknown {
  if (error instanceof InfermuxError) return error;
  const { statusCode = 500, message } = error as FastifyError;
  if (statusCode === 404) return refusal('not found', `nothing is at ${pathOf(request)}`);
  if (statusCode === 413) return refusal('too large', message);
  return statusCode < 500 ? new InfermuxError('INVALID_ARGUMENT', message) : error;
}
