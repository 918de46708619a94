import { isHandlerKey, NO_MODEL } from '../../contracts/handler.js';
import type { Log } from '../../observability/logger.js';
import type { EngineMetrics } from '../../observability/metrics.js';
import type { DispatcherObserver } from '../../routing/dispatcher-options.js';
import type { RoutedModel } from '../../routing/pending-request.js';
import { transferFeeds } from '../../tensors/own-feeds.js';
import type { KeepAlive } from '../keep-alive.js';

export interface DispatcherObserverEnvironment {
  readonly keepAlive: KeepAlive;
  readonly metrics: EngineMetrics;
  readonly log: Log;
}

/** What follows from the requests of one deployment: metrics, log lines, and the process that stays up as long as there are any. */
export function observeDispatcher(
  deployment: string,
  { keepAlive, metrics, log }: DispatcherObserverEnvironment,
): DispatcherObserver {
  const requests = metrics.deploymentRequests(deployment);
  return {
    submitted: () => {
      requests.sum += 1;
    },
    busy: () => keepAlive.hold(),
    idle: () => keepAlive.release(),
    accepted: ({ model, feeds, transferred }) => {
      metrics.requestAccepted(labelOf(model));
      // Not before: a caller that is refused keeps its arrays.
      if (transferred !== undefined) transferFeeds(feeds, transferred);
    },
    given: (replica, given) => metrics.requestsGiven(replica, given),
    waited: (queueMs) => metrics.requestWaited(queueMs),
    answered: (model, result) => metrics.requestAnswered(labelOf(model), result),
    failed: ({ code }, isShadow) => {
      metrics.deploymentError(deployment);
      if (!isShadow) metrics.requestFailed(code);
    },
    called: (model, called) => metrics.called(labelOf(model), called),
    batchingSwitchedOff: ({ id: model }, reason) => {
      metrics.batchVerificationFailed(model);
      const message = 'the model gives something else in a batch than alone: batching is switched off for it';
      log.write('warn', { model, reason }, message);
    },
    routerFailed: (fault, error, isFirst) => {
      metrics.routerFailed(deployment, fault);
      // It may happen with each request.
      if (!isFirst) return;
      log.write('error', { deployment, fault, err: error }, 'the router failed');
    },
  };
}

/** A handler's own models are counted together: there may be any number of them. */
function labelOf({ id, key }: RoutedModel): string {
  return isHandlerKey(key) ? NO_MODEL : id;
}
