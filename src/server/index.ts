/// <reference types="node" preserve="true" />
/**
 * A server of the Open Inference Protocol, over REST and gRPC.
 *
 * @module infermux/server
 */

export type { NonFinite } from '../open-inference/rest/infer-answer.js';
export { defineConfig, type ServeConfig } from './config.js';
export type { NodeLoad } from './node/node-load.js';
export type { NodeModel, NodeReport } from './node/this-node.js';
export { createServer, type InferenceServer, type ServerCloseOptions } from './server.js';
export type {
  Address,
  AuthOptions,
  LimitOptions,
  ListenOptions,
  RestOptions,
  ServerOptions,
} from './server-options.js';
export type { TlsOptions } from './tls-options.js';
