import type { RunOptions } from '../../contracts/run-options.js';
import { inferChannel } from '../../observability/traces/channels.js';
import type { InferTrace } from '../../observability/traces/operations.js';
import type { RoutedResult } from '../../routing/pending-request.js';
import type { ResultReader } from './inference-result.js';
import type { RequestScope } from './request-intake.js';
import type { Destination } from './targets.js';

/** Submits a request on these terms. */
export type TracedSubmit<T> = (options: RunOptions, reader: ResultReader<T>, within: RequestScope) => Promise<T>;

/** Whether anybody wants to hear of requests. */
export function isInferTraced(): boolean {
  return inferChannel.hasSubscribers;
}

/** Submits a request, and tells the channel `infermux:infer` of it. */
export function tracedRequest<T>(
  target: string,
  options: RunOptions,
  reader: ResultReader<T>,
  within: RequestScope,
  submit: TracedSubmit<T>,
): Promise<T> {
  const { requestId, traceContext } = options;
  const trace: InferTrace = { target, requestId, traceContext, isNested: within.path.length > 0 };
  return inferChannel.tracePromise(() => {
    // As the subscribers have left it.
    const own = trace.traceContext === traceContext ? options : { ...options, traceContext: trace.traceContext };
    return submit(own, noting(trace, reader), { ...within, trace });
  }, trace);
}

/** Returns a reader that also notes what it reads in the trace. */
function noting<T>(trace: InferTrace, reader: ResultReader<T>): ResultReader<T> {
  return (destination: Destination) => {
    trace.model = destination.model.id;
    trace.deployment = destination.deployment.name;
    trace.version = destination.isHandled ? undefined : destination.model.version;
    const read = reader(destination);
    return (result: RoutedResult) => {
      const { model, replica, batchSize, queueMs, loadMs, runMs, totalMs } = result;
      if (!destination.isHandled) trace.version = model.version;
      trace.replica = replica;
      trace.batchSize = batchSize;
      trace.timings = { queueMs, loadMs, runMs, totalMs };
      return read(result);
    };
  };
}
