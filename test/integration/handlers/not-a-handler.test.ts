import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { models, outcome } from '../../support/engines/handlers-engine.js';
import { makePipe } from '../../support/pipes.js';

describe('a module that is no handler', () => {
  let broken: InferenceEngine;
  beforeAll(async () => {
    broken = await createEngine({ models, replicas: 0 });
    return () => broken.close();
  });

  it.each([
    ['../../package.json', 'could not be imported'],
    ['../support/directories.js', 'could not be imported'],
    [
      '../support/nothing-handler.mjs',
      'must export a function handle or handleBatch, by name or in its default; it exports "loadModel"',
    ],
  ])('%s is refused by name', async (path, reason) => {
    const handler = new URL(path, new URL('..', import.meta.url));
    const goal = await broken.deployments.create('app', { handler });
    expect(await outcome(goal.done)).toContain(reason);
    await (await broken.deployments.delete('app')).done;
  });

  it.skipIf(process.platform === 'win32')('nor a file is not waited for', async () => {
    for (const handler of [makePipe(join(directory(), 'handler.mjs')), '/dev/zero']) {
      const goal = await broken.deployments.create('app', { handler });
      expect(await outcome(goal.done)).toContain('could not be imported: it is not a regular file');
      await (await broken.deployments.delete('app')).done;
    }
  });
});
