/// <reference types="node" preserve="true" />
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
