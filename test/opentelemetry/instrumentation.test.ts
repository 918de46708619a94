import { tracingChannel } from 'node:diagnostics_channel';
import { fileURLToPath } from 'node:url';
import { context, propagation, SpanStatusCode, type Tracer, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../dist/client/index.js';
import { InfermuxInstrumentation } from '../../dist/opentelemetry/index.js';
import { codeOf } from '../support/code-of.js';
import { type Served, scaleRequest, startServed } from '../support/engines/served-engine.js';

const exporter = new InMemorySpanExporter();
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const tracer: Tracer = provider.getTracer('test');
const instrumentation = new InfermuxInstrumentation();
const single = { x: { dims: [1], data: Float32Array.of(3) } };
const NESTED = fileURLToPath(new URL('../support/concurrent-handler.mjs', import.meta.url));
const feeds = { x: { dims: [1, 4], data: Float32Array.of(3, 0, 0, 0) } };
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const CALLER = 'b7ad6b7169203331';
const traceparent = `00-${TRACE}-${CALLER}-01`;

let served: Served;
beforeAll(async () => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  served = await startServed();
  await served.engine.models.load('times-2', { replicas: 'all' });
  await served.engine.deployments.create('app', { handler: NESTED, replicas: 1 });
  await served.engine.models.load('slow-run', { replicas: 'all' });
});
afterAll(() => served.close());
beforeEach(() => {
  instrumentation.setTracerProvider(provider);
  instrumentation.enable();
  exporter.reset();
});
afterEach(() => instrumentation.disable());

const spans = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name);
const only = (name: string) => {
  const found = spans(name);
  expect(found).toHaveLength(1);
  return found[0] as ReadableSpan;
};
const idOf = (span: ReadableSpan) => span.spanContext().spanId;
const msOf = ([seconds, nanos]: readonly [number, number]) => seconds * 1_000 + nanos / 1e6;

it('exports no span of its own', () => {
  exporter.reset();
  instrumentation.setTracerProvider(provider);
  expect(exporter.getFinishedSpans()).toStrictEqual([]);
});

describe('a request', () => {
  it('is a span within the active one, and has its queue and its run in it, within its time', async () => {
    const outer = tracer.startSpan('outer');
    const { replica } = await context.with(trace.setSpan(context.active(), outer), () =>
      served.engine.infer({ target: 'times-2', feeds, requestId: 'r1' }),
    );
    const own = only('infermux.infer');
    expect(own.parentSpanContext?.spanId).toBe(outer.spanContext().spanId);
    expect(own.attributes).toMatchObject({
      ...{ 'infermux.target': 'times-2', 'infermux.model': 'times-2', 'infermux.model_version': 1 },
      ...{ 'infermux.deployment': 'default', 'infermux.replica': replica, 'infermux.batch_size': 1 },
      'infermux.request_id': 'r1',
    });
    const parts = [only('infermux.queue'), only('infermux.run')];
    for (const part of parts) {
      expect(part.parentSpanContext?.spanId).toBe(idOf(own));
      expect(msOf(part.startTime)).toBeGreaterThanOrEqual(msOf(own.startTime) - 0.001);
      expect(msOf(part.endTime)).toBeLessThanOrEqual(msOf(own.endTime) + 0.001);
    }
    expect(spans('infermux.load')).toStrictEqual([]);
    expect(spans('infermux.batch')).toStrictEqual([]);
  });

  it('that waits for a load says so, and the load has a span of its own', async () => {
    await served.engine.models.unload('times-3');
    await served.engine.run('times-3', feeds);
    expect(only('infermux.load').parentSpanContext?.spanId).toBe(idOf(only('infermux.infer')));
    const load = only('infermux.model_load');
    expect(load.attributes).toMatchObject({ 'infermux.model': 'times-3', 'infermux.wide': false });
    expect(load.attributes['infermux.model_bytes']).toBeGreaterThan(0);
    expect(load.parentSpanContext).toBeUndefined();
  });

  it('that waits for somebody who can take it waits in its queue all the while', async () => {
    const late = served.engine.run('later/times-2', feeds, { waitForCapacityMs: 10_000 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await (await served.engine.deployments.create('later', { replicas: 1 })).done;
    await late;
    const [own, queue, run] = ['infer', 'queue', 'run'].map((name) => only(`infermux.${name}`)) as ReadableSpan[];
    expect(msOf((queue as ReadableSpan).startTime)).toBe(msOf((own as ReadableSpan).startTime));
    expect(msOf((run as ReadableSpan).endTime)).toBeLessThanOrEqual(msOf((own as ReadableSpan).endTime) + 0.001);
    expect(msOf((own as ReadableSpan).endTime) - msOf((run as ReadableSpan).endTime)).toBeLessThan(50);
    await (await served.engine.deployments.delete('later')).done;
  });

  it('that fails says why, whether it is refused at once or later', async () => {
    expect(await codeOf(served.engine.run('times-2', {}))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(served.engine.run('slow-run', single, { timeoutMs: 1 }))).toBe('DEADLINE_EXCEEDED');
    const errors = spans('infermux.infer').map(({ attributes, status }) => [attributes['error.type'], status.code]);
    expect(errors).toStrictEqual([
      ['INVALID_ARGUMENT', SpanStatusCode.ERROR],
      ['DEADLINE_EXCEEDED', SpanStatusCode.ERROR],
    ]);
  });

  it('that ran with others has a link to the span of their run, which has links to all of theirs', async () => {
    await Promise.all(Array.from({ length: 64 }, () => served.engine.run('times-2', feeds)));
    const requests = spans('infermux.infer');
    const runs = spans('infermux.run');
    expect(requests).toHaveLength(64);
    const batches = spans('infermux.batch');
    expect(batches.length).toBeGreaterThan(0);
    for (const batch of batches) {
      expect(batch.attributes['infermux.requests']).toBe(batch.links.length);
      for (const link of batch.links) {
        const request = requests.find((each) => idOf(each) === link.context.spanId) as ReadableSpan;
        const run = runs.find((each) => each.parentSpanContext?.spanId === idOf(request));
        expect(run?.links.map((each) => each.context.spanId)).toStrictEqual([idOf(batch)]);
      }
    }
  });

  it('that a handler makes is within the span of the handler’s', async () => {
    await served.engine.run<unknown>('app', { do: 'nested', target: 'times-2', request: feeds });
    const [inner, outer] = spans('infermux.infer') as [ReadableSpan, ReadableSpan];
    expect(outer.attributes['infermux.deployment']).toBe('app');
    expect(inner.parentSpanContext?.spanId).toBe(idOf(outer));
    expect(inner.spanContext().traceId).toBe(outer.spanContext().traceId);
  });
});

describe('the trace that a client names', () => {
  it('is kept over HTTP', async () => {
    await fetch(`${served.http}/v2/models/times-2/infer`, {
      ...{ method: 'POST', headers: { traceparent, tracestate: 'vendor=1' } },
      body: JSON.stringify(scaleRequest(1, 2, 3, 4)),
    });
    const own = only('infermux.infer');
    expect(own.spanContext().traceId).toBe(TRACE);
    expect(own.parentSpanContext).toMatchObject({ spanId: CALLER, isRemote: true });
    expect(own.spanContext().traceState?.get('vendor')).toBe('1');
  });

  it('is kept over gRPC', async () => {
    await using client = await connect(`grpc://${served.grpc}`);
    await client.run('times-2', feeds, { traceContext: { traceparent } });
    expect(only('infermux.infer').parentSpanContext?.spanId).toBe(CALLER);
  });

  it('goes behind the active span, if that is of the same trace: an HTTP server’s, for example', async () => {
    const remote = trace.setSpanContext(context.active(), { traceId: TRACE, spanId: CALLER, traceFlags: 1 });
    const server = tracer.startSpan('server', {}, remote);
    const active = trace.setSpan(context.active(), server);
    await context.with(active, () => served.engine.run('times-2', feeds, { traceContext: { traceparent } }));
    expect(only('infermux.infer').parentSpanContext?.spanId).toBe(server.spanContext().spanId);
  });
});

describe('the instrumentation', () => {
  const isHeard = () => tracingChannel('infermux:infer').hasSubscribers;

  it('listens to nothing while no provider is registered, and begins when one is', async () => {
    instrumentation.setTracerProvider(trace.getTracerProvider());
    expect(isHeard()).toBe(false);
    trace.setGlobalTracerProvider(provider);
    await expect.poll(isHeard, { timeout: 5_000 }).toBe(true);
    trace.disable();
  });

  it('ends when it is disabled, and may be enabled again', async () => {
    expect(isHeard()).toBe(true);
    instrumentation.disable();
    expect(isHeard()).toBe(false);
    await served.engine.run('times-2', feeds);
    expect(exporter.getFinishedSpans()).toStrictEqual([]);
    instrumentation.enable();
    instrumentation.enable();
    await served.engine.run('times-2', feeds);
    expect(spans('infermux.infer')).toHaveLength(1);
  });

  it('makes no spans within a request that is not sampled, and its handler knows that', async () => {
    const unsampled = `00-${TRACE}-${CALLER}-00`;
    await served.engine.run('times-2', feeds, { traceContext: { traceparent: unsampled } });
    expect(exporter.getFinishedSpans()).toStrictEqual([]);
  });
});

afterAll(() => propagation.disable());
