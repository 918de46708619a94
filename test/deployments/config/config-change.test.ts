import { expect, it } from 'vitest';
import { configChange } from '../../../dist/deployments/config/config-change.js';
import type { DeploymentOptions } from '../../../dist/deployments/config/deployment-options.js';
import { resolveDeployment } from '../../../dist/deployments/config/resolve-deployment.js';

const handled = { handler: '/h.mjs', userConfig: { a: 1 } };

it.each<[string, DeploymentOptions, DeploymentOptions, boolean, string[]]>([
  ['nothing', { replicas: 2 }, { replicas: 2 }, true, []],
  ['nothing, said in other words', { batching: 'auto', labels: { a: 'b' } }, { labels: [{ a: 'b' }] }, true, []],
  ['another number', { replicas: 2 }, { replicas: 3 }, true, ['isAny', 'needsScale']],
  ['other bounds', {}, { autoscaling: { maxReplicas: 3 } }, true, ['isAny', 'needsScale']],
  ['limits', {}, { maxQueuedRequests: 1, maxOngoingRequests: 1, defaultTimeoutMs: 9 }, true, ['isAny']],
  [
    'batching, time-outs and checks',
    {},
    { batching: false, healthCheck: { periodMs: 1 }, rollingUpdate: { fraction: 1 } },
    true,
    ['isAny'],
  ],
  ['whether there may be an express replica', {}, { express: false }, true, ['isAny']],
  ['sessions', {}, { session: { intraOpNumThreads: 2 } }, true, ['isAny', 'needsRoll']],
  ['the cache', {}, { maxModelsPerReplica: 4 }, true, ['isAny', 'needsRoll']],
  ['the configuration', handled, { ...handled, userConfig: { a: 2 } }, true, ['isAny', 'needsReconfigure']],
  [
    'the configuration of a handler that cannot',
    handled,
    { ...handled, userConfig: { a: 2 } },
    false,
    ['isAny', 'needsRoll'],
  ],
  ['the handler too', handled, { handler: '/i.mjs', userConfig: { a: 2 } }, true, ['isAny', 'needsRoll']],
  ['everything', {}, { replicas: 2, weights: 'shared', batching: false }, true, ['isAny', 'needsRoll', 'needsScale']],
])('%s', (_, before, after, canReconfigure, expected) => {
  const change = configChange(resolveDeployment('a', before), resolveDeployment('b', after), canReconfigure);
  const said = Object.entries(change).flatMap(([what, isSo]) => (isSo ? [what] : []));
  expect(said.sort()).toEqual(expected.sort());
});
