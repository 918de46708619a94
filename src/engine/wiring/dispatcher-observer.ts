import { isHandlerKey, NO_MODEL } from '../../contracts/handler.js';
import type { EventHub } from '../../observability/engine-events.js';
import type { EngineMetrics } from '../../observability/engine-metrics.js';
import type { Log } from '../../observability/log.js';
import { begin, finish, runChannel } from '../../observability/traces/channels.js';
import type { InferTrace, RunTrace } from '../../observability/traces/operations.js';
import type { PendingDispatch } from '../../routing/batches/take-dispatch.js';
import type { DispatcherObserver } from '../../routing/dispatcher-options.js';
import { isSought, type RoutedModel } from '../../routing/pending-request.js';
import type { KeepAlive } from '../keep-alive.js';

export interface DispatcherObserverEnvironment {
  readonly keepAlive: KeepAlive;
  readonly metrics: EngineMetrics;
  readonly log: Log;
  readonly events: EventHub;
}

/** Counts and logs the requests of one deployment, and keeps the process up while there are any. */
export function observeDispatcher(
  deployment: string,
  { keepAlive, metrics, log, events }: DispatcherObserverEnvironment,
): Omit<DispatcherObserver, 'expressNeeded' | 'sought' | 'unsought' | 'insteadOf'> {
  const requests = metrics.deploymentRequests(deployment);
  return {
    submitted: () => {
      requests.sum += 1;
    },
    busy: () => keepAlive.hold(),
    idle: () => keepAlive.release(),
    accepted: ({ model }) => metrics.requestAccepted(labelOf(model)),
    given: (replica, model, dispatch) => {
      metrics.sessions.asked(replica, dispatch.requests);
      if (runChannel.hasSubscribers) dispatch.trace = begin(runChannel, traceOf(deployment, replica, model, dispatch));
    },
    ended: ({ trace }, loadMs, error) => {
      const told = trace as RunTrace;
      if (error === undefined) told.loadMs = loadMs;
      else told.error = error;
      finish(runChannel, told);
    },
    waited: (queueMs) => metrics.requestWaited(queueMs),
    answered: (model, result) => metrics.requestAnswered(labelOf(model), result),
    failed: (model, { code, message: reason }, isShadow) => {
      metrics.deploymentError(deployment);
      if (isShadow) return;
      metrics.requestFailed(code);
      metrics.modelRequestFailed(labelOf(model));
      events.emit('requestFailed', () => ({ model: model.id, deployment, code, reason }));
    },
    called: (model, called, isWide) => metrics.called(labelOf(model), called, isWide),
    batchingSwitchedOff: (model, reason) => {
      metrics.batchVerificationFailed(labelOf(model));
      const message = 'the model gives other results in a batch than alone: batching is switched off for it';
      log.write('warn', { model: model.id, reason }, message);
      events.emit('batchingSwitchedOff', () => ({ model: model.id, deployment, reason }));
    },
    barred: (model, error, bar) => {
      metrics.requestKilled(deployment, labelOf(model));
      const fact = { model: model.id, deployment, reason: error.message, ...bar };
      log.write('warn', fact, 'a request ended replicas, and is not run again for a while');
      events.emit('requestBarred', () => fact);
    },
    routerFailed: (fault, error, isFirst) => {
      metrics.routerFailed(deployment, fault);
      // The fault may happen with each request, so only the first is logged.
      if (!isFirst) return;
      log.write('error', { deployment, fault, err: error }, 'the router failed');
      events.emit('routerFailed', () => ({ deployment, kind: fault, reason: error.message }));
    },
  };
}

function traceOf(deployment: string, replica: string, model: RoutedModel, dispatch: PendingDispatch): RunTrace {
  const { id, version } = model;
  const requests = dispatch.groups.flatMap((group) =>
    group.requests.flatMap(({ trace }) => (trace as InferTrace) ?? []),
  );
  return {
    ...{ model: id, version, deployment, replica, isWide: dispatch.wide !== undefined },
    ...{ size: dispatch.requests, requests },
  };
}

/** Returns the metrics label of a model. A handler's own models share one: there may be any number of them. */
export function labelOf(model: RoutedModel): string {
  const { id, key, version } = model;
  // As most are. The other questions take longer, and this is asked twice for each request.
  if (version !== undefined) return id;
  if (isHandlerKey(key)) return NO_MODEL;
  // The name by which it is looked for may have a version.
  return isSought(model) ? (id.split('@')[0] ?? id) : id;
}
