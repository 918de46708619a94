import { type TracingChannel, type TracingChannelSubscribers, tracingChannel } from 'node:diagnostics_channel';
import { isSpanContextValid, ROOT_CONTEXT, type Tracer, type TracerProvider, trace } from '@opentelemetry/api';
import { PACKAGE_VERSION } from '../common/package-version.js';
import type { InferTrace, LoadTrace, RunTrace } from '../index.js';
import { Spans } from './spans.js';

const NAME = 'infermux';
/** How often to look whether a provider has been registered, while none is: nothing tells that. */
const LOOK_MS = 1_000;

/** The part of a channel that a subscriber needs. */
type Subscribers<Trace extends object> = Partial<TracingChannelSubscribers<Trace>>;

/**
 * Creates OpenTelemetry spans for all engines of this process, from their diagnostics channels. It is an
 * instrumentation: pass it to `registerInstrumentations` or to the `instrumentations` of a `NodeSDK`, or call
 * {@link enable}.
 *
 * A request has a span `infermux.infer` with the spans `infermux.queue`, `infermux.load` (if it waited for a load) and
 * `infermux.run` in it. Requests that went to a replica together share a span `infermux.batch`, which has links to
 * theirs, and `infermux.run` a link to it. Each load of a session is a span `infermux.model_load`.
 *
 * While no provider of tracers is registered, it subscribes to nothing, and costs nothing.
 */
export class InfermuxInstrumentation {
  readonly instrumentationName: string = NAME;
  readonly instrumentationVersion: string = PACKAGE_VERSION;
  #provider: TracerProvider = trace.getTracerProvider();
  #config: object = {};
  #isEnabled = false;
  #look: ReturnType<typeof setInterval> | undefined;
  #unsubscribe: (() => void) | undefined;

  /** Begins. Idempotent. */
  enable(): void {
    if (this.#isEnabled) return;
    this.#isEnabled = true;
    this.#begin();
  }

  /** Stops creating spans. Open spans are not ended. Idempotent. */
  disable(): void {
    this.#isEnabled = false;
    this.#end();
  }

  /** Uses another provider than the global one. */
  setTracerProvider(provider: TracerProvider): void {
    this.#provider = provider;
    if (!this.#isEnabled) return;
    this.#end();
    this.#begin();
  }

  /** Does nothing: for metrics, see `engine.metrics`. */
  setMeterProvider(): void {}

  getConfig(): object {
    return this.#config;
  }

  /** There is nothing to configure. */
  setConfig(config: object): void {
    this.#config = config;
  }

  #begin(): void {
    const tracer = this.#tracer();
    if (isNothing(tracer)) {
      this.#look ??= setInterval(() => this.#lookAgain(), LOOK_MS).unref();
      return;
    }
    this.#end();
    this.#unsubscribe = subscribe(new Spans(tracer, () => performance.timeOrigin + performance.now()));
  }

  #tracer(): Tracer {
    return this.#provider.getTracer(NAME, PACKAGE_VERSION);
  }

  #lookAgain(): void {
    if (!isNothing(this.#tracer())) this.#begin();
  }

  #end(): void {
    clearInterval(this.#look);
    this.#look = undefined;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }
}

/** Whether the tracer makes spans for nobody. The span of a provider has an id, even if it is not recorded. */
function isNothing(tracer: Tracer): boolean {
  // It is not ended, so that no provider exports it.
  return !isSpanContextValid(tracer.startSpan('infermux.probe', {}, ROOT_CONTEXT).spanContext());
}

/** @returns ends the subscriptions. */
function subscribe(spans: Spans): () => void {
  const ends = [
    follow<InferTrace>('infermux:infer', {
      start: (request) => spans.requestBegan(request),
      // A request that is refused at once ends here.
      end: (request) => request.error === undefined || spans.requestEnded(request),
      asyncEnd: (request) => spans.requestEnded(request),
    }),
    follow<RunTrace>('infermux:run', {
      start: (run) => spans.runBegan(run),
      asyncEnd: (run) => spans.runEnded(run),
    }),
    follow<LoadTrace>('infermux:load', {
      start: (load) => spans.loadBegan(load),
      asyncEnd: (load) => spans.loadEnded(load),
    }),
  ];
  return () => {
    for (const end of ends) end();
  };
}

function follow<Trace extends object>(name: string, subscribers: Subscribers<Trace>): () => void {
  const channel: TracingChannel<Trace, Trace> = tracingChannel<Trace, Trace>(name);
  channel.subscribe(subscribers as TracingChannelSubscribers<Trace>);
  return () => void channel.unsubscribe(subscribers as TracingChannelSubscribers<Trace>);
}
