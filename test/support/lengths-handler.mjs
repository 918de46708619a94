import { CHANGING, LONG } from './long-lists.mjs';

const kinds = { ...LONG, ...CHANGING };

/** Does what would walk a long list, and returns how each call ends. */
export async function handle({ what, kind }, context) {
  const make = kinds[kind];
  const data = new Float32Array(4);
  if (what === 'huge message') throw new Error('m'.repeat(50_000_000));
  if (what === 'causes in a circle') {
    const error = new Error('around');
    error.cause = error;
    throw error;
  }
  if (what === 'steers') throw new Error('red \u001b[31m and \u202eback\nnext line');
  if (what === 'dims') return context.run('times-2', { x: { dims: make([1, 4]), data } });
  if (what === 'outputs') return context.run('times-2', { x: { dims: [1, 4], data } }, make(['y']));
  const model = await context.getModel('times-2');
  return model.run({ x: { dims: [1, 4], data: make([1, 2, 3, 4]) } });
}
