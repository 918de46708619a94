import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Console, PAGE_HEADERS } from '../../console/console.js';
import { InfermuxError } from '../../index.js';
import { refusal } from '../../open-inference/error-statuses.js';
import { clientSignal } from './connection-signal.js';
import { addPath } from './router.js';
import { sendJson, sendText } from './send.js';
import { visitOf } from './visit.js';

const PATH = '/console';

/**
 * Adds the page at `/console`. The page itself says nothing of the engine, and needs no key; what it asks for does, as
 * other requests of the same part.
 */
export function addConsole(fastify: FastifyInstance, page: Console, maxBytes: number): void {
  const open = (operation: string) => ({ method: 'GET', area: 'health', operation }) as const;
  const read = (operation: string) => ({ method: 'GET', area: 'inference', operation }) as const;
  addPath(fastify, PATH, open('Console'), (_, reply) => {
    reply.code(302).header('location', 'console/').send();
  });
  addPath(fastify, `${PATH}/*`, open('Console'), (request, reply) => sendAsset(page, request, reply));
  addPath(fastify, `${PATH}/api/events`, read('ConsoleEvents'), (request, reply) => {
    if (request.method === 'HEAD') {
      sendText(reply, 'text/event-stream', '');
      return;
    }
    if (!page.watch(reply.raw))
      throw new InfermuxError('QUEUE_FULL', 'too many pages are open, or the server is ending');
    reply.hijack();
  });
  addPath(fastify, `${PATH}/api/model`, read('ConsoleModel'), async (request, reply) => {
    sendJson(reply, await page.describe(modelIn(request)));
  });
  const run = { method: 'POST', area: 'inference', operation: 'ConsoleInfer' } as const;
  addPath(fastify, `${PATH}/api/infer`, run, async (request, reply) => {
    const body = await visitOf(request).receive(maxBytes).all();
    sendJson(reply, await page.infer(body.toString(), clientSignal(request)));
  });
  if (!page.isAdmin) return;
  const change = (operation: string) => ({ method: 'POST', area: 'admin', operation }) as const;
  addPath(fastify, `${PATH}/api/admin/load`, change('ConsoleLoad'), async (request, reply) => {
    await page.load(modelIn(request));
    sendJson(reply, {});
  });
  addPath(fastify, `${PATH}/api/admin/unload`, change('ConsoleUnload'), async (request, reply) => {
    await page.unload(modelIn(request));
    sendJson(reply, {});
  });
}

function sendAsset(page: Console, request: FastifyRequest, reply: FastifyReply): void {
  const name = (request.params as { '*': string })['*'];
  const asset = page.asset(name);
  if (asset === undefined) throw refusal('not found', `nothing is at ${PATH}/${name}`);
  reply.headers(PAGE_HEADERS);
  sendText(reply, asset.type, asset.text);
}

function modelIn({ query }: FastifyRequest): string {
  const { model } = query as { readonly model?: unknown };
  return typeof model === 'string' ? model : '';
}
