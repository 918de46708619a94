import {
  type Attributes,
  type Context,
  type Link,
  ROOT_CONTEXT,
  type Span,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { toInfermuxError } from '../common/errors.js';
import type { InferTrace, LoadTrace, RunTrace } from '../index.js';
import { parentOf, writeTraceContext } from './remote-parent.js';

/** A span under way. */
interface Begun {
  readonly span: Span;
  readonly context: Context;
  /** Milliseconds since the Unix epoch. */
  readonly startedAt: number;
}

/** Makes the spans of requests, runs and loads. Times come from one clock, so that spans lie within each other. */
export class Spans {
  readonly #tracer: Tracer;
  readonly #now: () => number;
  readonly #requests = new WeakMap<InferTrace, Begun>();
  readonly #runs = new WeakMap<RunTrace, Begun>();
  readonly #loads = new WeakMap<LoadTrace, Begun>();
  /** The last run that each request shared with others. */
  readonly #shared = new WeakMap<InferTrace, Link>();

  /** @param now milliseconds since the Unix epoch. */
  constructor(tracer: Tracer, now: () => number) {
    this.#tracer = tracer;
    this.#now = now;
  }

  requestBegan(request: InferTrace): void {
    const begun = this.#begin('infermux.infer', parentOf(request.traceContext), {
      'infermux.target': request.target,
      ...(request.requestId === undefined ? {} : { 'infermux.request_id': request.requestId }),
    });
    // What a handler asks for is within the span of its own request.
    request.traceContext = writeTraceContext(begun.span.spanContext());
    this.#requests.set(request, begun);
  }

  requestEnded(request: InferTrace): void {
    const begun = this.#requests.get(request);
    if (begun === undefined) return;
    this.#requests.delete(request);
    const { span } = begun;
    if (span.isRecording()) {
      span.setAttributes(attributesOf(request));
      this.#addTimes(request, begun);
      failed(span, request.error);
    }
    span.end(this.#now());
  }

  /** Only a run that several requests share has a span of its own: that of another would say what its request's says. */
  runBegan(run: RunTrace): void {
    if (run.size === 1) {
      // One that is tried again, alone, has no more to do with the others.
      for (const request of run.requests) this.#shared.delete(request);
      return;
    }
    const spans = run.requests.flatMap((request) => this.#requests.get(request)?.span ?? []);
    const links = spans.filter((span) => span.isRecording()).map((span) => ({ context: span.spanContext() }));
    if (links.length === 0) return;
    const attributes = { ...attributesOf(run), 'infermux.requests': run.size, 'infermux.wide': run.isWide };
    const begun = this.#begin('infermux.batch', ROOT_CONTEXT, attributes, links);
    this.#runs.set(run, begun);
    const link = { context: begun.span.spanContext() };
    for (const request of run.requests) this.#shared.set(request, link);
  }

  runEnded(run: RunTrace): void {
    this.#end(this.#runs, run);
  }

  loadBegan(load: LoadTrace): void {
    const attributes = { ...attributesOf(load), 'infermux.wide': load.isWide };
    this.#loads.set(load, this.#begin('infermux.model_load', ROOT_CONTEXT, attributes));
  }

  loadEnded(load: LoadTrace): void {
    if (load.bytes !== undefined) this.#loads.get(load)?.span.setAttribute('infermux.model_bytes', load.bytes);
    this.#end(this.#loads, load);
  }

  #begin(name: string, parent: Context, attributes: Attributes, links: Link[] = []): Begun {
    const startedAt = this.#now();
    const span = this.#tracer.startSpan(name, { attributes, links, startTime: startedAt }, parent);
    return { span, startedAt, context: trace.setSpan(parent, span) };
  }

  #end<Operation extends { readonly error?: unknown }>(spans: WeakMap<Operation, Begun>, operation: Operation): void {
    const begun = spans.get(operation);
    if (begun === undefined) return;
    spans.delete(operation);
    failed(begun.span, operation.error);
    begun.span.end(this.#now());
  }

  /** Adds what a request went through, one after the other: it waits, perhaps for a load, and runs; then its answer is there. */
  #addTimes(request: InferTrace, { context, startedAt }: Begun): void {
    const { timings } = request;
    if (timings === undefined) return;
    const { queueMs, loadMs, runMs, totalMs } = timings;
    // A request may have waited for somebody who can take it, before the engine counts its time.
    const answeredAt = Math.max(startedAt + totalMs, this.#now());
    const givenAt = answeredAt - totalMs + queueMs;
    const shared = this.#shared.get(request);
    this.#add('infermux.queue', context, startedAt, givenAt);
    if (loadMs > 0) this.#add('infermux.load', context, givenAt, Math.min(answeredAt, givenAt + loadMs));
    this.#add('infermux.run', context, Math.max(givenAt, answeredAt - runMs), answeredAt, shared);
  }

  #add(name: string, within: Context, startTime: number, endTime: number, link?: Link): void {
    this.#tracer.startSpan(name, { startTime, links: link === undefined ? [] : [link] }, within).end(endTime);
  }
}

/** What is known of the operation. */
function attributesOf(operation: Partial<Omit<InferTrace, 'error'>>): Attributes {
  const { model, version, deployment, replica, batchSize } = operation;
  return {
    'infermux.model': model,
    'infermux.model_version': version,
    'infermux.deployment': deployment,
    'infermux.replica': replica,
    'infermux.batch_size': batchSize,
  };
}

function failed(span: Span, error: unknown): void {
  if (error === undefined) return;
  const { code, message } = toInfermuxError(error);
  span.setAttribute('error.type', code);
  span.recordException({ code, name: 'InfermuxError', message });
  span.setStatus({ code: SpanStatusCode.ERROR, message });
}
