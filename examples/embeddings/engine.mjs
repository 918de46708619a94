import { createEngine } from 'infermux';

/** Embeds texts: `engine.run('embed', text)` gives a `Float32Array`. */
export const startEngine = () =>
  createEngine({
    models: new URL('models', import.meta.url),
    replicas: 0, // all work is the handler's
    deployments: {
      embed: { handler: new URL('handler.mjs', import.meta.url), replicas: 2, batching: { maxSize: 32 } },
    },
  });

export const likeness = (left, right) => left.reduce((sum, value, index) => sum + value * right[index], 0);
