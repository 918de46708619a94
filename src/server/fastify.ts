/// <reference types="node" preserve="true" />
/**
 * The REST API of the server as a plugin for fastify.
 *
 * @module infermux/fastify
 */
import type { FastifyInstance } from 'fastify';
import { type InferenceEngine, InfermuxError } from '../index.js';
import { checkByteOrder } from '../open-inference/raw-tensors.js';
import { addRestSide } from './http/plugin.js';
import { type RestOptions, resolveRest } from './server-options.js';
import { ServerParts } from './server-parts.js';

export type { AuthOptions, LimitOptions, RestOptions } from './server-options.js';

export interface InfermuxPluginOptions extends RestOptions {
  readonly engine: InferenceEngine;
  /** Prefix of the paths of all routes, as in fastify's `register`. Default: none. */
  readonly prefix?: string | undefined;
  /**
   * Whether to add the requests that load, unload and add models. Default false, because your server decides who can
   * reach them.
   */
  readonly admin?: boolean | undefined;
}

/**
 * The REST API of the server as a plugin for fastify 5. Its hooks, parsers and error handlers apply only to its own
 * paths. Your server sets the limits of connections and headers.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the option.
 */
export async function infermuxPlugin(fastify: FastifyInstance, options: InfermuxPluginOptions): Promise<void> {
  checkByteOrder();
  const { engine, prefix: _, ...rest } = options;
  if (typeof engine?.infer !== 'function') {
    throw new InfermuxError('INVALID_ARGUMENT', 'infermuxPlugin needs the option engine, which createEngine makes');
  }
  const parts = new ServerParts(engine, resolveRest('infermuxPlugin', rest, { admin: false, console: false }));
  fastify.addHook('preClose', async () => {
    parts.drain();
    parts.keepNoConnection();
  });
  fastify.addHook('onClose', async () => parts.close());
  await addRestSide(fastify, parts, { inference: true, admin: parts.options.admin });
}
