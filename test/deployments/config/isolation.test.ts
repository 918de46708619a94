import { expect, it } from 'vitest';
import type { InfermuxError } from '../../../dist/common/errors.js';
import { resolveIsolation } from '../../../dist/deployments/config/isolation.js';
import { resolveDeployment } from '../../../dist/deployments/config/resolve-deployment.js';

const DEFAULTS = {
  ...{ kind: 'process', memoryLimitBytes: undefined, runTimeoutMs: -1, killCancelled: false, spares: 1 },
  ...{ env: {}, execArgv: [], uid: undefined, gid: undefined },
};

it('replicas are threads unless an option says that they are processes', () => {
  expect(resolveDeployment('options', {}).isolation).toBe('thread');
  expect(resolveIsolation('isolation', 'thread')).toBe('thread');
  expect(resolveIsolation('isolation', 'process')).toEqual(DEFAULTS);
  expect(resolveIsolation('isolation', { kind: 'process', runTimeoutMs: 5 })).toEqual({ ...DEFAULTS, runTimeoutMs: 5 });
});

it('what was resolved resolves to the same, as a checkpoint needs it', () => {
  const resolved = resolveIsolation('isolation', { kind: 'process', spares: 3, env: { A: 'b' }, uid: 5 });
  expect(resolveIsolation('isolation', JSON.parse(JSON.stringify(resolved)))).toEqual(resolved);
});

it.each([
  ['processes', 'deployment.isolation must be "thread", "process" or an object with kind: "process"'],
  [7, 'got 7'],
  [{}, 'isolation.kind must be "process", and is missing'],
  [{ kind: 'thread' }, 'isolation.kind must be "process"'],
  [{ kind: 'process', memoryLimitBytes: 1e6 }, 'memoryLimitBytes'],
  [{ kind: 'process', runTimeoutMs: 0 }, 'runTimeoutMs'],
  [{ kind: 'process', spares: 65 }, 'spares'],
  [{ kind: 'process', killCancelled: 'yes' }, 'killCancelled'],
  [{ kind: 'process', env: { A: 1 } }, 'env'],
  [{ kind: 'process', execArgv: '--permission' }, 'execArgv'],
  [{ kind: 'process', uid: -1 }, 'uid'],
  [{ kind: 'process', gid: 2 ** 32 }, 'gid'],
  [{ kind: 'process', memory: 5 }, 'memory'],
])('%j is refused, and the message names what is wrong', (isolation, message) => {
  const resolve = () => resolveDeployment('deployment', { isolation: isolation as never });
  expect(resolve).toThrow(message);
  try {
    resolve();
  } catch (error) {
    expect((error as InfermuxError).code).toBe('INVALID_ARGUMENT');
  }
});
