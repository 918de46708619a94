import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { refusal } from '../../open-inference/error-statuses.js';
import type { Area } from '../access-control.js';
import { sendError } from './send.js';

/** Sends the answer itself. What it throws or rejects with is sent as an error. */
export type Handler = (request: FastifyRequest, reply: FastifyReply) => void | Promise<void>;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Part of the server that the route belongs to. */
    readonly area?: Area;
    /** Name of the route in metrics and logs. */
    readonly operation?: string;
  }
}

/** Methods that a wrong request may have. OPTIONS is the browsers', for CORS. */
const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** Adds a path: its method goes to the handler, and others are refused by name. */
export function addPath(
  fastify: FastifyInstance,
  path: string,
  { method, area, operation }: { method: 'GET' | 'POST'; area: Area; operation: string },
  handler: Handler,
): void {
  const config = { area, operation };
  addPaths(fastify, path, config, (request, reply) => {
    const isRight = request.method === method || (request.method === 'HEAD' && method === 'GET');
    if (!isRight) throw wrongMethod(reply, method);
    return handler(request, reply);
  });
}

/** Adds a path, or a family of them, for all methods. */
export function addPaths(
  fastify: FastifyInstance,
  path: string,
  config: { area: Area; operation: string },
  handler: Handler,
): void {
  fastify.route({
    ...{ method: [...METHODS], url: path, config },
    // Without a promise: fastify would wait for the end of the answer with one more listener.
    handler: (request, reply) => {
      try {
        handler(request, reply)?.catch((cause: unknown) => sendError(reply, cause));
      } catch (cause) {
        sendError(reply, cause);
      }
    },
  });
}

export function wrongMethod(reply: FastifyReply, ...methods: readonly string[]): Error {
  reply.header('allow', methods.join(', '));
  return refusal('method', `the method must be ${methods.join(' or ')}`);
}
