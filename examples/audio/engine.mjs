import { createEngine } from 'infermux';

/** Listens to streams: send the pieces of a stream one after the other, with the stream's name as `shardKey`. */
export const startEngine = () =>
  createEngine({
    models: new URL('models', import.meta.url),
    replicas: 0,
    deployments: {
      listen: {
        handler: new URL('handler.mjs', import.meta.url),
        replicas: 2,
        router: { module: new URL('by-stream.mjs', import.meta.url) },
      },
    },
  });
