import { tracingChannel } from 'node:diagnostics_channel';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  createEngine,
  type InferenceEngine,
  type InferTrace,
  type LoadTrace,
  type Outputs,
  type RunTrace,
} from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { modelDirectory, scaleModel } from '../../support/onnx-models.js';

const models = modelDirectory({ 'times-2': scaleModel(2), broken: Uint8Array.of(8, 1, 2) });
const HANDLER = new URL('../../support/concurrent-handler.mjs', import.meta.url);
const STREAMS = new URL('../../support/stream-handler.mjs', import.meta.url);

let engine: InferenceEngine;
beforeAll(async () => {
  engine = await createEngine({
    models,
    replicas: 1,
    deployments: { app: { handler: HANDLER, replicas: 1 }, streams: { handler: STREAMS, replicas: 1 } },
  });
});
afterAll(() => engine.close());

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** Notes what a channel tells: the name of each message, and what it is about as it was then. */
function listenTo<Trace extends object>(name: string) {
  const channel = tracingChannel<Trace, Trace>(name);
  const told: { readonly message: string; readonly trace: Trace }[] = [];
  const hear = (message: string) => (trace: Trace) => void told.push({ message, trace });
  const subscribers = {
    ...{ start: hear('start'), end: hear('end'), error: hear('error') },
    ...{ asyncStart: hear('asyncStart'), asyncEnd: hear('asyncEnd') },
  };
  channel.subscribe(subscribers);
  ends.push(() => void channel.unsubscribe(subscribers));
  const messagesOf = (trace: Trace) => told.filter((each) => each.trace === trace).map(({ message }) => message);
  const traces = () => [...new Set(told.map(({ trace }) => trace))];
  return { traces, messagesOf };
}

const WELL = ['start', 'end', 'asyncStart', 'asyncEnd'];
const LATER_ERROR = ['start', 'end', 'error', 'asyncStart', 'asyncEnd'];
const feeds = { x: { dims: [1, 4], data: Float32Array.of(3, 0, 0, 0) } };

describe('the channel infermux:infer', () => {
  it('tells of a request from the call to the answer, with all that infer says of it', async () => {
    const { traces, messagesOf } = listenTo<InferTrace>('infermux:infer');
    const { outputs, ...facts } = await engine.infer({ target: 'times-2', feeds, requestId: 'r1' });
    const [trace] = traces();
    expect(traces()).toHaveLength(1);
    expect(messagesOf(trace as InferTrace)).toStrictEqual(WELL);
    expect(trace).toMatchObject({ ...facts, target: 'times-2', requestId: 'r1', isNested: false });
    expect(trace?.result).toMatchObject({ outputs });
    expect(trace?.error).toBeUndefined();
  });

  it('tells of a request that is refused at once, or fails later, why', async () => {
    const { traces, messagesOf } = listenTo<InferTrace>('infermux:infer');
    expect(await codeOf(engine.run('times-2', {}))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(engine.run('broken', feeds))).toBe('MODEL_LOAD_FAILED');
    const [refused, failed] = traces() as [InferTrace, InferTrace];
    expect(messagesOf(refused)).toStrictEqual(['start', 'error', 'end']);
    expect(refused.error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(messagesOf(failed)).toStrictEqual(LATER_ERROR);
    expect(failed.error).toMatchObject({ code: 'MODEL_LOAD_FAILED' });
    expect(failed).toMatchObject({ model: 'broken', deployment: 'default' });
  });

  it('tells of what a handler asks for, in the trace that a subscriber has set', async () => {
    const { traces } = listenTo<InferTrace>('infermux:infer');
    const own = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
    const channel = tracingChannel<InferTrace, InferTrace>('infermux:infer');
    const set = {
      start: (trace: InferTrace) => {
        if (!trace.isNested) trace.traceContext = own;
      },
    };
    channel.subscribe(set as never);
    ends.push(() => void channel.unsubscribe(set as never));
    const nested = await engine.run<Outputs>('app', { do: 'nested', target: 'times-2', request: feeds });
    expect(nested['y']?.data).toStrictEqual(Float32Array.of(6, 0, 0, 0));
    const [outer, inner] = traces() as [InferTrace, InferTrace];
    expect(outer).toMatchObject({ target: 'app', deployment: 'app', isNested: false });
    expect(inner).toMatchObject({ target: 'times-2', model: 'times-2', isNested: true, traceContext: own });
  });

  it('tells of a stream until it has ended', async () => {
    const { traces, messagesOf } = listenTo<InferTrace>('infermux:infer');
    const items: unknown[] = [];
    for await (const item of engine.stream('streams', { as: 'readable' })) items.push(item);
    expect(items).toHaveLength(3);
    expect(messagesOf(traces()[0] as InferTrace)).toStrictEqual(WELL);
  });

  it('tells of a request that waits for somebody who can take it, and waits in vain', async () => {
    const { traces, messagesOf } = listenTo<InferTrace>('infermux:infer');
    expect(await codeOf(engine.run('later', feeds, { waitForCapacityMs: 20 }))).toBe('MODEL_NOT_FOUND');
    expect(messagesOf(traces()[0] as InferTrace)).toStrictEqual(LATER_ERROR);
  });
});

describe('the channel infermux:run', () => {
  it('tells which requests go to a replica together', async () => {
    await engine.run('times-2', feeds);
    const infer = listenTo<InferTrace>('infermux:infer');
    const { traces, messagesOf } = listenTo<RunTrace>('infermux:run');
    await Promise.all(Array.from({ length: 64 }, () => engine.run('times-2', feeds)));
    const runs = traces();
    for (const run of runs) expect(messagesOf(run)).toStrictEqual(WELL);
    expect(runs.reduce((sum, { size }) => sum + size, 0)).toBe(64);
    expect(runs.length).toBeLessThan(64);
    expect(new Set(runs.flatMap(({ requests }) => requests))).toStrictEqual(new Set(infer.traces()));
    expect(runs[0]).toMatchObject({ model: 'times-2', version: 1, deployment: 'default', loadMs: 0 });
  });

  it('tells of requests whose own traces nobody wanted', async () => {
    const { traces } = listenTo<RunTrace>('infermux:run');
    await engine.run('times-2', feeds);
    expect(traces()).toMatchObject([{ size: 1, requests: [] }]);
  });
});

describe('the channel infermux:load', () => {
  it('tells of loads, and why they failed', async () => {
    const { traces, messagesOf } = listenTo<LoadTrace>('infermux:load');
    await engine.models.unload('times-2');
    await engine.models.load('times-2');
    await engine.models.unload('broken');
    expect(await codeOf(engine.models.load('broken'))).toBe('MODEL_LOAD_FAILED');
    const loads = traces();
    const good = loads.find(({ model }) => model === 'times-2') as LoadTrace;
    const bad = loads.find(({ model }) => model === 'broken') as LoadTrace;
    expect(messagesOf(good)).toStrictEqual(WELL);
    expect(good.loadMs).toBeGreaterThan(0);
    expect(good.bytes).toBeGreaterThan(0);
    expect(messagesOf(bad)).toStrictEqual(LATER_ERROR);
    expect(bad.error).toMatchObject({ code: 'MODEL_LOAD_FAILED' });
  });
});
