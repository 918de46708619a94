import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { row, startDeployments } from '../../support/engines/deployments-engine.js';

let engine: InferenceEngine;

async function start(options?: EngineOptions): Promise<void> {
  ({ engine } = await startDeployments(options));
}

afterEach(() => engine?.destroy());

describe('refusals', () => {
  it('name what there is, and what to do', async () => {
    const handler = new URL('../../support/handler.mjs', import.meta.url);
    await start({ deployments: { handled: { handler } } });
    const refusal = (call: Promise<unknown>) => call.then(String, ({ code, message }) => `${code}: ${message}`);
    const { deployments } = engine;
    const expected: [Promise<unknown>, string][] = [
      [deployments.update('none', {}), 'FAILED_PRECONDITION: no deployment "none"; there are: "default", "handled"'],
      [deployments.delete('none'), 'FAILED_PRECONDITION: no deployment "none"; there are: "default", "handled"'],
      [engine.run('times-1', row(), { deployment: 'none' }), 'FAILED_PRECONDITION: no deployment "none"'],
      [engine.run('none/times-1', row()), 'FAILED_PRECONDITION: no deployment "none"'],
      [engine.run('default/none', row()), 'MODEL_NOT_FOUND: no model "none"'],
      [engine.models.load('times-1', { deployment: 'none' }), 'FAILED_PRECONDITION: no deployment "none"'],
      [deployments.create('default', { replicas: 7 }), 'exists, with other replicas: call update'],
      [deployments.create('a b'), "INVALID_ARGUMENT: a deployment's name must be up to 64 letters"],
      [deployments.create('a', { replica: 1 } as never), 'INVALID_ARGUMENT: deployment "a": unknown key "replica"'],
      [deployments.create('a', null as never), 'INVALID_ARGUMENT: deployment "a" must be a plain object, got null'],
      [deployments.update('default', 7 as never), 'INVALID_ARGUMENT: the changes must be a plain object, got 7'],
      [deployments.update('default', { handler: 'a.mjs' }), 'a handler cannot be added or removed'],
      [
        deployments.create('a', { handler: 'a.mjs', userConfig: new Map() }),
        'userConfig must be what JSON can carry, and comes out of it as {}',
      ],
      [
        deployments.create('a', { handler: 'a.mjs', userConfig: () => 1 }),
        'deployment "a".userConfig must be what JSON can carry, and comes out of it as undefined',
      ],
      [deployments.create('_a'), 'the first a letter or a digit, got "_a"'],
      [deployments.update('handled', { handler: undefined }), 'a handler cannot be added or removed'],
      [
        engine.run('handeld', row()),
        'no model "handeld"; known models: "slow", "times-1", "times-2", "times-3"; deployments with a handler: "handled"',
      ],
      [deployments.delete('default', { force: 1 } as never), 'INVALID_ARGUMENT: delete.force must be true or false'],
    ];
    const refusals = await Promise.all(expected.map(([call]) => refusal(call)));
    for (const [index, [, message]] of expected.entries()) expect(refusals[index]).toContain(message);
    expect(() => deployments.get('none')).toThrow('no deployment "none"');
  });

  it('a deployment without replicas refuses, and says why', async () => {
    await start({ replicas: 0 });
    await expect(engine.run('times-1', row())).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('has no replicas (replicas: 0)'),
    });
    expect(engine.ready).toBe(true);
    await (await engine.deployments.update('default', { replicas: 1 })).done;
    expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
  });
});
