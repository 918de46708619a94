import type { DeploymentLine, EndpointLine, ErrorLine, ModelLine, Share } from '../messages.js';
import { amount, bytes, clockTime, milliseconds } from './elements.js';
import { type Column, table } from './tables.js';

export const modelAddress = (id: string) => `#/model/${encodeURIComponent(id)}`;

/** Models, a line each. */
export function modelTable() {
  const columns: readonly Column<ModelLine>[] = [
    {
      name: 'model',
      by: ({ id }) => id,
      text: ({ id, version }) => `${id}@${version}`,
      href: ({ id }) => modelAddress(id),
    },
    { name: 'requests / s', isNumber: true, by: ({ requests }) => requests, text: ({ requests }) => amount(requests) },
    {
      name: 'p50',
      isNumber: true,
      by: ({ latency }) => latency?.p50 ?? 0,
      text: ({ latency }) => milliseconds(latency?.p50),
    },
    {
      name: 'p99',
      isNumber: true,
      by: ({ latency }) => latency?.p99 ?? 0,
      text: ({ latency }) => milliseconds(latency?.p99),
    },
    { name: 'waiting', isNumber: true, by: ({ queued }) => queued, text: ({ queued }) => amount(queued) },
    {
      ...{ name: 'errors / s', isNumber: true, by: ({ errors }) => errors, text: ({ errors }) => amount(errors) },
      tone: ({ errors }) => (errors > 0 ? 'bad' : ''),
    },
    { name: 'replicas', isNumber: true, by: ({ replicas }) => replicas, text: ({ replicas }) => String(replicas) },
    { name: 'size', isNumber: true, by: (line) => line.bytes, text: (line) => bytes(line.bytes) },
  ];
  return table('Models', columns, ({ id, version }) => `${id}@${version}`, 'There are no models.');
}

/** Deployments, and whether they are as they should be. */
export function deploymentTable() {
  const columns: readonly Column<DeploymentLine>[] = [
    { name: 'deployment', text: ({ name }) => name },
    {
      name: 'state',
      text: ({ state, isReady }) => (isReady ? state : `${state}, not ready`),
      tone: ({ isReady }) => (isReady ? 'good' : 'warn'),
    },
    { name: 'replicas', isNumber: true, text: ({ running, target }) => `${running} of ${target}` },
    {
      name: 'follows load',
      text: ({ autoscaling }) => (autoscaling === undefined ? 'no' : `${autoscaling.min} to ${autoscaling.max}`),
    },
    { name: 'waiting', isNumber: true, text: ({ queued }) => amount(queued) },
    { name: 'with replicas', isNumber: true, text: ({ ongoing }) => amount(ongoing) },
    { name: 'last change', text: ({ goal }) => goal, tone: ({ goal }) => (goal === 'failed' ? 'bad' : '') },
    { name: 'last failure', text: ({ lastFailure = '' }) => lastFailure, tone: () => 'bad' },
  ];
  return table('Deployments', columns, ({ name }) => name, 'There are no deployments.');
}

function shares(traffic: readonly Share[]): string {
  return traffic.map(({ target, share }) => `${target} ${amount(100 * share)} %`).join(', ');
}

/** Endpoints, and where their requests go. */
export function endpointTable() {
  const columns: readonly Column<EndpointLine>[] = [
    { name: 'endpoint', text: ({ name }) => name },
    { name: 'requests / s', isNumber: true, text: ({ perSecond }) => amount(perSecond) },
    { name: 'traffic', text: ({ traffic }) => shares(traffic) },
    { name: 'copies', text: ({ shadows }) => shares(shadows) || 'none' },
  ];
  return table('Endpoints', columns, ({ name }) => name, 'There are no endpoints.');
}

/** Why requests failed. */
export function errorTable() {
  const columns: readonly Column<ErrorLine>[] = [
    { name: 'last', text: ({ at }) => clockTime(at) },
    { name: 'code', text: ({ code }) => code, tone: () => 'bad' },
    { name: 'times', isNumber: true, text: ({ count }) => amount(count) },
    { name: 'model', text: ({ model = '' }) => model },
    { name: 'message', text: ({ message }) => message, tone: () => 'long' },
  ];
  return table(
    'Errors',
    columns,
    ({ code, model, message }) => `${code} ${model} ${message}`,
    'No request has failed since this page is open.',
  );
}
