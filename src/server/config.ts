import type { EngineOptions } from '../index.js';
import type { ServerOptions } from './server-options.js';

/** What `infermux serve` reads from its configuration file. */
export interface ServeConfig {
  /** Options of the engine, as `createEngine` takes them. */
  readonly engine?: EngineOptions | undefined;
  /** Options of the server, as `createServer` takes them. */
  readonly server?: ServerOptions | undefined;
}

/** Returns the configuration unchanged. It lets editors check and complete the options. */
export function defineConfig(config: ServeConfig): ServeConfig {
  return config;
}
