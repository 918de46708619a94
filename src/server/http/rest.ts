import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { InfermuxError } from '../../index.js';
import { refusal } from '../../open-inference/error-statuses.js';
import type { Parameters } from '../../open-inference/inference-call.js';
import { parseObject, readParameters } from '../../open-inference/rest/tensor-message.js';
import { modelConfigOf } from '../inference/model-config.js';
import { targetOf } from '../inference/served-names.js';
import { serverMetadata } from '../inference/server-metadata.js';
import type { ServerParts } from '../server-parts.js';
import { checkedJson } from './bodies/small-json.js';
import { addConsole } from './console-routes.js';
import { InferRoutes } from './infer-routes.js';
import { MODEL_ACTIONS, type ModelAction, type ModelPath, readModelPath } from './model-path.js';
import { openApi } from './open-api.js';
import { addPath, addPaths, wrongMethod } from './router.js';
import { sendJson, sendText } from './send.js';
import { visitOf } from './visit.js';

/** Which parts of the REST side a listener has. */
export interface RestAreas {
  readonly inference: boolean;
  readonly admin: boolean;
}

/** Adds the paths of the protocol, of metrics and of the document about them. */
export function addRest(fastify: FastifyInstance, parts: ServerParts, areas: RestAreas): void {
  addHealth(fastify, parts);
  if (areas.inference) addInference(fastify, parts, areas);
  if (areas.inference && parts.console !== undefined)
    addConsole(fastify, parts.console, parts.options.limits.bodyBytes);
  if (areas.admin) addAdmin(fastify, parts);
}

function addHealth(fastify: FastifyInstance, parts: ServerParts): void {
  const health = (operation: string) => ({ method: 'GET', area: 'health', operation }) as const;
  addPath(fastify, '/v2/health/live', health('ServerLive'), (_, reply) => sendJson(reply, { live: true }));
  addPath(fastify, '/v2/health/ready', health('ServerReady'), (_, reply) => {
    const { isReady: ready } = parts;
    sendJson(ready ? reply : reply.code(503), { ready });
  });
  addPath(fastify, '/v2/health/steady', health('ServerSteady'), (_, reply) => {
    const steady = parts.isReady && parts.node.load.isSteady;
    sendJson(steady ? reply : reply.code(503), { steady });
  });
}

function addInference(fastify: FastifyInstance, parts: ServerParts, areas: RestAreas): void {
  const read = (operation: string) => ({ method: 'GET', area: 'inference', operation }) as const;
  const about = serverMetadata(areas.admin);
  const metadata = (_: FastifyRequest, reply: FastifyReply) => sendJson(reply, about);
  addPath(fastify, '/v2', read('ServerMetadata'), metadata);
  addPath(fastify, '/v2/', read('ServerMetadata'), metadata);
  addPath(fastify, '/v2/models', read('ModelList'), (_, reply) => {
    sendJson(reply, { models: parts.names.all() });
  });
  addPath(fastify, '/v2/node', read('Node'), (_, reply) => {
    sendJson(reply, parts.node.report(parts.isReady, parts.isDraining));
  });
  addPath(fastify, '/metrics', read('Metrics'), async (_, reply) => {
    sendText(reply, parts.engine.metrics.contentType, await parts.engine.metrics.metrics());
  });
  let document: string | undefined;
  addPath(fastify, '/openapi.json', read('OpenApi'), (_, reply) => {
    document ??= JSON.stringify(openApi(areas, parts.access.hasKeys, fastify.prefix));
    sendText(reply, 'application/json', document);
  });
  const models = new ModelRoutes(parts);
  addPaths(fastify, '/v2/models/*', { area: 'inference', operation: 'ModelMetadata' }, (request, reply) =>
    models.answer(request, reply),
  );
}

/** The paths below `/v2/models/`, which end with what is asked of the model. */
class ModelRoutes {
  readonly #parts: ServerParts;
  readonly #infer: InferRoutes;

  constructor(parts: ServerParts) {
    this.#parts = parts;
    this.#infer = new InferRoutes(parts);
  }

  answer(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const path = readModelPath((request.params as { '*': string })['*']);
    const { method, operation } = MODEL_ACTIONS[path.action];
    if (request.infermuxVisit !== undefined) request.infermuxVisit.operation = operation;
    const isRight = request.method === method || (request.method === 'HEAD' && method === 'GET');
    if (!isRight) throw wrongMethod(reply, method);
    return this.#actions[path.action](request, reply, path);
  }

  readonly #actions: Readonly<
    Record<ModelAction, (request: FastifyRequest, reply: FastifyReply, path: ModelPath) => Promise<void>>
  > = {
    infer: (...given) => this.#infer.infer(...given),
    generate: (...given) => this.#infer.generate(...given),
    generate_stream: (...given) => this.#infer.generateStream(...given),
    '': async (_, reply, { name, version }) => sendJson(reply, await this.#parts.names.metadata(name, version)),
    ready: async (_, reply, { name, version }) => {
      const ready = !this.#parts.isDraining && (await this.#parts.names.isReady(targetOf(name, version)));
      sendJson(ready ? reply : reply.code(503), { name, ready });
    },
    config: async (_, reply, { name, version }) => {
      const { names } = this.#parts;
      const inspection = await names.inspect(name, version);
      sendJson(reply, modelConfigOf(name, inspection, names.versionsOf(inspection.id)));
    },
    stats: async (_, reply, { name, version }) =>
      sendJson(reply, { model_stats: await this.#parts.statistics.of(name, version) }),
  };
}

function addAdmin(fastify: FastifyInstance, parts: ServerParts): void {
  const write = (operation: string) => ({ method: 'POST', area: 'admin', operation }) as const;
  const bodies = new AdminBodies(parts);
  for (const prefix of ['/v2/repository', '/v2/repository/:repository']) {
    addPath(fastify, `${prefix}/index`, write('RepositoryIndex'), async (request, reply) => {
      checkRepository(request);
      const { ready } = await bodies.read(request);
      sendJson(reply, await parts.repository.index(ready === true));
    });
  }
  for (const prefix of ['/v2/repository/models/', '/v2/repository/:repository/models/']) {
    addPath(fastify, `${prefix}*`, write('RepositoryModel'), async (request, reply) => {
      checkRepository(request);
      const path = (request.params as { '*': string })['*'];
      const [, name, action] = /^(.+)\/(load|unload)$/.exec(path) ?? [];
      if (name === undefined) throw refusal('not found', 'the path must end with /load or /unload');
      const { parameters } = await bodies.read(request);
      if (action === 'load') await parts.repository.load(name, readParameters('the request', parameters));
      else await parts.repository.unload(name);
      sendJson(reply, {});
    });
  }
  addPaths(fastify, '/v2/logging', { area: 'admin', operation: 'LogSettings' }, async (request, reply) => {
    if (request.method === 'POST') sendJson(reply, parts.logSettings.change(await bodies.read(request)));
    else if (request.method === 'GET') sendJson(reply, parts.logSettings.read());
    else throw wrongMethod(reply, 'GET', 'POST');
  });
}

/** There is one repository, without a name. */
function checkRepository({ params }: FastifyRequest): void {
  const { repository } = params as { repository?: string };
  if (repository === undefined || repository === '') return;
  const message = `there is one repository, which has no name; got ${JSON.stringify(repository)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

/** Reads the JSON bodies of the admin part. */
class AdminBodies {
  readonly #maxBytes: number;

  constructor({ options }: ServerParts) {
    this.#maxBytes = options.limits.bodyBytes;
  }

  async read(request: FastifyRequest): Promise<Parameters> {
    const body = visitOf(request).receive(this.#maxBytes);
    const bytes = await body.all();
    return bytes.length === 0 ? {} : parseObject(checkedJson(bytes, body).toString());
  }
}
