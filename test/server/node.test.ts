import { Client, credentials, Metadata } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../dist/client/index.js';
import { encodeRequest } from '../../dist/open-inference/grpc/infer-codec.js';
import { LoadMeter } from '../../dist/server/node/node-load.js';
import { orcaHeader, orcaMessage } from '../../dist/server/node/orca.js';
import { type Served, scaleRequest, startServed } from '../support/engines/served-engine.js';

const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

let served: Served;
const logged: Record<string, unknown>[] = [];
beforeAll(async () => {
  const drop = () => undefined;
  const info = (fields: object) => void logged.push({ ...fields });
  served = await startServed({
    node: 'first',
    logRequests: true,
    logger: { debug: drop, info, warn: drop, error: drop },
  });
});
afterAll(() => served.close());

const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${served.http}/v2/models/${path}`, { method: 'POST', body: JSON.stringify(body), headers });
const infer = (headers: Record<string, string> = {}) => post('times-2/infer', scaleRequest(1, 2, 3, 4), headers);
const call = (method: string, request: unknown, headers: Record<string, string> = {}) =>
  post('handler/generate', { ...(request as object), parameters: { method } }, headers);

/** The trailer of an answer over gRPC. */
async function trailerOf(model: string, metadata: Record<string, string> = {}): Promise<Metadata> {
  const client = new Client(served.grpc, credentials.createInsecure());
  const own = new Metadata();
  for (const [name, value] of Object.entries(metadata)) own.set(name, value);
  const x = Buffer.from(Float32Array.of(1, 2, 3, 4).buffer);
  const request = encodeRequest({
    ...{ model_name: model, model_version: '', id: '', parameters: {}, outputs: [], raw_input_contents: [x] },
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 4], parameters: {}, contents: undefined }],
  });
  const bytes = (message: Buffer) => message;
  return new Promise((resolve) => {
    const path = '/inference.GRPCInferenceService/ModelInfer';
    const unary = client.makeUnaryRequest(path, bytes, bytes, Buffer.from(request), own, () => undefined);
    unary.on('status', ({ metadata: trailer }) => {
      client.close();
      resolve(trailer);
    });
  });
}

describe('an answer', () => {
  it('says over HTTP which node it is from, how long the request waited, and how many the node has', async () => {
    const { headers } = await infer();
    expect(headers.get('x-infermux-node')).toBe('first');
    expect(Number(headers.get('x-infermux-queue-ms'))).toBeGreaterThan(0);
    expect(headers.get('x-infermux-ongoing')).toBe('1');
    expect(headers.get('endpoint-load-metrics')).toBeNull();
    expect((await fetch(`${served.http}/v2/nothing`)).headers.get('x-infermux-node')).toBe('first');
  });

  it('says the same over gRPC, with an error too', async () => {
    const trailer = await trailerOf('times-2');
    expect(trailer.get('x-infermux-node')).toStrictEqual(['first']);
    expect(Number(trailer.get('x-infermux-queue-ms')[0])).toBeGreaterThanOrEqual(0);
    expect(trailer.get('x-infermux-ongoing')).toStrictEqual(['1']);
    const failed = await trailerOf('nothing');
    expect(failed.get('x-infermux-node')).toStrictEqual(['first']);
    expect(failed.get('infermux-code')).toStrictEqual(['MODEL_NOT_FOUND']);
  });

  it('has a load report where the client asks for one, in the form that it names', async () => {
    const text = (await infer({ 'endpoint-load-metrics-format': 'text' })).headers.get('endpoint-load-metrics');
    expect(text).toMatch(
      /^TEXT cpu_utilization=[\d.]+,mem_utilization=[\d.]+,rps_fractional=[\d.]+,eps=[\d.]+,named_metrics.ongoing=1,named_metrics.queued=0,named_metrics.delay_ms=[\d.]+$/,
    );
    const json = (await infer({ 'endpoint-load-metrics-format': 'json' })).headers.get('endpoint-load-metrics');
    expect(JSON.parse(json?.replace(/^JSON /, '') ?? '')).toMatchObject({ named_metrics: { ongoing: 1, queued: 0 } });
    expect((await infer({ 'endpoint-load-metrics-format': 'xml' })).headers.get('endpoint-load-metrics')).toBeNull();
    const [bytes] = (await trailerOf('times-2', { 'endpoint-load-metrics-format': 'bin' })).get(
      'endpoint-load-metrics-bin',
    );
    expect(decodeReport(bytes as Buffer)).toMatchObject({ namedMetrics: { ongoing: 1, queued: 0 } });
  });

  it('to a request that is refused says when to come back', async () => {
    const full = await startServed({ limits: { requests: 1 } });
    const target = `${full.http}/v2/models/handler/generate`;
    const first = fetch(target, { method: 'POST', body: JSON.stringify({ ms: 400, parameters: { method: 'wait' } }) });
    await expect.poll(() => full.engine.deployments.get('handler').ongoing).toBe(1);
    const refused = await fetch(target, { method: 'POST', body: '{}' });
    expect([refused.status, refused.headers.get('retry-after')]).toStrictEqual([429, '1']);
    expect((await first).status).toBe(200);
    await full.close();
  });
});

interface Answer {
  readonly outputs: readonly { readonly data: readonly number[] }[];
}

const decodeReport = (bytes: Uint8Array) => {
  const { root } = protobuf.parse(`syntax = "proto3"; message OrcaLoadReport {
    double cpu_utilization = 1; double mem_utilization = 2; double rps_fractional = 6; double eps = 7;
    map<string, double> named_metrics = 8; }`);
  const type = root.lookupType('OrcaLoadReport');
  return type.toObject(type.decode(bytes));
};

describe('a load', () => {
  const admission = { requests: 3 } as ConstructorParameters<typeof LoadMeter>[1];
  const engine = { status: () => ({ queued: 2 }) } as unknown as ConstructorParameters<typeof LoadMeter>[0];

  it('is that since it was last read, and of half a second at least', () => {
    let [now, cpu, delay] = [0, 0, 3];
    const memory = () => ({ used: 1, most: 4 });
    const meter = new LoadMeter(engine, admission, {
      now: () => now,
      cpuMicroseconds: () => cpu,
      memory,
      delayMs: () => delay,
      close: () => undefined,
    });
    for (let index = 0; index < 10; index += 1) meter.answered(index === 0);
    now = 400;
    expect(meter.read()).toMatchObject({ ongoing: 3, requestsPerSecond: 0 });
    now = 1_000;
    cpu = 500_000;
    const read = meter.read();
    expect(read).toMatchObject({
      ongoing: 3,
      queued: 2,
      memory: 0.25,
      requestsPerSecond: 10,
      errorsPerSecond: 1,
      delayMs: 3,
    });
    expect(read.cpu).toBeGreaterThan(0);
    now = 1_300;
    meter.answered(false);
    expect(meter.read()).toStrictEqual(read);
    now = 2_000;
    expect(meter.isSteady).toBe(true);
    expect(meter.read()).toMatchObject({ cpu: 0, requestsPerSecond: 1, errorsPerSecond: 0 });
    [now, delay] = [2_600, 40];
    expect(meter.isSteady).toBe(false);
    [now, delay] = [3_200, 39];
    expect(meter.isSteady).toBe(true);
  });

  it('is written as Envoy and gRPC read it', () => {
    const load = {
      ongoing: 4,
      queued: 3,
      cpu: 0.5,
      memory: 0.25,
      requestsPerSecond: 12.34567,
      errorsPerSecond: 1,
      delayMs: 2.5,
    };
    expect(orcaHeader('text', load)).toBe(
      'TEXT cpu_utilization=0.5,mem_utilization=0.25,rps_fractional=12.3457,eps=1,named_metrics.ongoing=4,named_metrics.queued=3,named_metrics.delay_ms=2.5',
    );
    expect(decodeReport(orcaMessage(load))).toStrictEqual({
      ...{ cpuUtilization: 0.5, memUtilization: 0.25, rpsFractional: 12.34567, eps: 1 },
      namedMetrics: { ongoing: 4, queued: 3, delay_ms: 2.5 },
    });
  });
});

describe('the report of a node', () => {
  it('has its load, its replicas, and the versions of its models', async () => {
    await infer();
    const report = (await (await fetch(`${served.http}/v2/node`)).json()) as { models: { name: string }[] };
    expect(report).toMatchObject({ node: 'first', ready: true, draining: false, replicas: { running: 3, target: 3 } });
    expect(report.models.find(({ name }) => name === 'times-2')).toMatchObject({
      ...{ versions: [{ version: 1, bytes: expect.any(Number) }], current: 1, loaded: [1] },
    });
    expect(served.server.report()).toMatchObject({ node: 'first', models: report.models });
  });

  it('has a name with its port where none is given', async () => {
    const unnamed = await startServed();
    expect(unnamed.server.node).toMatch(new RegExp(`.:${unnamed.server.http?.port}$`));
    await unnamed.close();
  });
});

describe('a request with a trace', () => {
  it('gives it to handlers and to the log, over both protocols', async () => {
    const { requestId } = (await (await call('trace', {}, { traceparent: TRACE, tracestate: 'a=b' })).json()) as {
      requestId?: string;
    };
    expect(requestId).toBeUndefined();
    const answer = await (await call('trace', {}, { traceparent: TRACE, tracestate: 'a=b' })).json();
    expect(answer).toMatchObject({ traceparent: TRACE, tracestate: 'a=b' });
    expect(await (await call('trace', {}, { traceparent: '00-zz' })).json()).toMatchObject({ none: true });
    await trailerOf('times-2', { traceparent: TRACE });
    await expect
      .poll(() => logged.filter(({ traceparent }) => traceparent === TRACE).map(({ protocol }) => protocol))
      .toStrictEqual(['http', 'http', 'grpc']);
  });

  it('is told by the client, with the model where a proxy cannot see it', async () => {
    const traceContext = { traceparent: TRACE, tracestate: 'c=d' };
    for (const address of [served.http, `grpc://${served.grpc}`]) {
      const client = await connect(address);
      const told = await client.run<unknown>('handler', {}, { method: 'trace', traceContext });
      expect(told).toStrictEqual(traceContext);
      const wrong = { traceparent: 'no' };
      await expect(client.run<unknown>('handler', {}, { traceContext: wrong })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      await client.close();
    }
  });

  it('is refused by an engine where it has the wrong form', async () => {
    const run = (traceContext: unknown) =>
      served.engine.run('handler', {}, { method: 'trace', traceContext: traceContext as { traceparent: string } });
    for (const wrong of [TRACE, { traceparent: 'x' }, { traceparent: TRACE, tracestate: 1 }, null]) {
      await expect(run(wrong)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  });
});

describe('a request with an idempotency key', () => {
  const key = (name: string) => ({ 'idempotency-key': name });

  it('runs once, however often it is sent', async () => {
    const answers = await Promise.all([1, 2, 3].map(() => call('counted', {}, key('once'))));
    const numbers = await Promise.all(answers.map(async (answer) => (await answer.json()) as { counted: number }));
    expect(new Set(numbers.map(({ counted }) => counted)).size).toBe(1);
    expect(await (await call('counted', {}, key('once'))).json()).toStrictEqual(numbers[0]);
    expect(await (await call('counted', {}, key('other'))).json()).not.toStrictEqual(numbers[0]);
    expect(await (await call('counted', {})).json()).not.toStrictEqual(numbers[0]);
  });

  it('goes on when its client goes away, and answers the next try', async () => {
    const leaves = new AbortController();
    const url = `${served.http}/v2/models/handler/generate`;
    const body = JSON.stringify({ ms: 300, parameters: { method: 'wait' } });
    const sent = fetch(url, { method: 'POST', body, headers: key('left'), signal: leaves.signal });
    await expect.poll(() => served.engine.deployments.get('handler').ongoing).toBe(1);
    leaves.abort();
    await expect(sent).rejects.toMatchObject({ name: 'AbortError' });
    expect(served.engine.deployments.get('handler').ongoing).toBe(1);
    const began = performance.now();
    expect(await (await fetch(url, { method: 'POST', body, headers: key('left') })).json()).toMatchObject({
      waited: 300,
    });
    expect(performance.now() - began).toBeLessThan(300);
  });

  it('is another one for each target, and for tensors the same', async () => {
    const answers = await Promise.all(
      ['times-2', 'times-3'].map((model) => post(`${model}/infer`, scaleRequest(1, 1, 1, 1), key('t'))),
    );
    const data = await Promise.all(
      answers.map(async (answer) => ((await answer.json()) as Answer).outputs[0]?.data[0]),
    );
    expect(data).toStrictEqual([2, 3]);
    const other = await post('times-2/infer', scaleRequest(9, 9, 9, 9), key('t'));
    expect(other.status).toBe(400);
    expect(await other.json()).toMatchObject({ error: expect.stringContaining('was used for another request') });
  });
});

describe('a node that is ending', () => {
  it('tells clients on connections that are kept to go elsewhere, from the begin of the delay on', async () => {
    const ending = await startServed({ drainDelayMs: 300 });
    const ask = () => fetch(`${ending.http}/v2/health/ready`);
    expect((await ask()).headers.get('connection')).toBe('keep-alive');
    const closed = ending.close();
    expect(ending.server.draining).toBe(true);
    const asked = await ask();
    expect([asked.status, asked.headers.get('connection')]).toStrictEqual([503, 'close']);
    await closed;
  });
});
