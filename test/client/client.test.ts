import { execFileSync } from 'node:child_process';
import { createServer as createHttpServer, type Server } from 'node:http';
import { constants, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type InferenceClient } from '../../dist/client/index.js';
import { type Feeds, InfermuxError, type Outputs } from '../../dist/index.js';
import { createServer } from '../../dist/server/index.js';
import { codeOf } from '../support/code-of.js';
import { IDENTITY_TYPES, type Served, startServed } from '../support/engines/served-engine.js';
import { tensorOf } from '../support/tensors.js';

let served: Served;
beforeAll(async () => {
  served = await startServed();
});
afterAll(() => served.close());

const row = (...values: number[]) => ({ x: { dims: [1, 4], data: Float32Array.from(values) } });

describe.each(['REST', 'gRPC'])('a client over %s', (protocol) => {
  let client: InferenceClient;
  beforeAll(async () => {
    client = await connect(protocol === 'REST' ? served.http : `grpc://${served.grpc}`);
  });
  afterAll(() => client.close());

  it('runs models with the shapes of the engine', async () => {
    const expected = await served.engine.run('times-2', row(1, 2, 3, 4));
    expect(await client.run('times-2', row(1, 2, 3, 4))).toStrictEqual(expected);
    expect(await client.run('times-2@1', row(1, 2, 3, 4))).toStrictEqual(expected);
    expect(await client.run('public', row(1, 2, 3, 4))).toStrictEqual(expected);
    expect(await client.run('times-2', row(1, 2, 3, 4), { deployment: 'default' })).toStrictEqual(expected);
    expect(await client.run('times-2', row(1, 2, 3, 4), { outputs: ['y'] })).toStrictEqual(expected);
  });

  it('runs handlers, and tells of the answer as the engine does', async () => {
    const answer = await client.infer<unknown>({ target: 'handler', feeds: { value: 7 }, method: 'answer' });
    expect(answer).toMatchObject({ outputs: 7, deployment: 'handler', batchSize: 1 });
    expect(answer.timings.totalMs).toBeGreaterThan(0);
  });

  it('answers what was asked before its end, and nothing after it', async () => {
    const own = await connect(protocol === 'REST' ? served.http : `grpc://${served.grpc}`);
    const waiting = own.run<unknown>('handler', { ms: 200 }, { method: 'wait' });
    const stream = own.stream('handler', { to: 3 }, { method: 'count' })[Symbol.asyncIterator]();
    expect(await stream.next()).toMatchObject({ value: { index: 0 } });
    const closed = own.close();
    expect(own.close()).toBe(closed);
    expect(await codeOf(own.run('times-2', row(1, 2, 3, 4)))).toBe('ENGINE_CLOSED');
    expect(await waiting).toStrictEqual({ waited: 200 });
    expect(await stream.next()).toMatchObject({ value: { index: 1 } });
    await stream.return?.();
    await closed;
    expect(await codeOf(own.models.list())).toBe('ENGINE_CLOSED');
    expect(await codeOf(own.stream('handler', {})[Symbol.asyncIterator]().next())).toBe('ENGINE_CLOSED');
    expect(await own.ready()).toBe(false);
  });

  it('says of a model that is not there that it is not ready', async () => {
    expect(await client.models.ready('nothing-like-it')).toBe(false);
    expect(await client.models.ready('times-2')).toBe(true);
  });

  it('lists names where the admin part is switched off', async () => {
    const plain = await createServer(served.engine, { http: { port: 0 }, grpc: { port: 0 }, admin: false });
    const [http, grpc] = [plain.http?.port, plain.grpc?.port];
    const own = await connect(protocol === 'REST' ? `http://127.0.0.1:${http}` : `grpc://127.0.0.1:${grpc}`);
    const ids = (await own.models.list()).map(({ id }) => id);
    expect(ids).toStrictEqual(expect.arrayContaining(['times-2', 'identity', 'handler']));
    expect(new Set(ids).size).toBe(ids.length);
    expect(await codeOf(own.models.load('times-2'))).toBe('FAILED_PRECONDITION');
    await own.close();
    await plain.close();
  });

  it('gives plain numbers the type of the input', async () => {
    const { y } = await client.run('times-2', { x: { dims: [1, 4], data: [1, 2, 3, 4] } });
    expect(y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
    expect(await codeOf(client.run('look-up', { index: { dims: [1, 1], data: [1.5] } }))).toBe('INVALID_ARGUMENT');
  });

  it('carries every type, to the last bit', async () => {
    const feeds = fc.tuple(...IDENTITY_TYPES.map((type) => tensorOf(type, [3, 2])));
    await fc.assert(
      fc.asyncProperty(feeds, async (tensors) => {
        const sent = Object.fromEntries(tensors.map((tensor, index) => [`in${index}`, tensor])) as Feeds;
        const outputs = await client.run('identity', sent);
        for (const [index, { type, data }] of tensors.entries()) {
          expect(outputs[`out${index}`]).toStrictEqual({ type, dims: [3, 2], data });
        }
      }),
      { numRuns: 20 },
    );
  });

  it('carries large tensors', async () => {
    const data = Float32Array.from({ length: 1_000_000 }, (_, index) => index / 7);
    const { y } = (await client.run('huge', { x: { dims: [1, 1_000_000], data } })) as unknown as {
      y: { data: Float32Array };
    };
    // The matchers take seconds for so many elements.
    expect(y.data.every((value, index) => value === Math.fround(data[index] as number) * 2)).toBe(true);
  });

  it('tells what the engine tells of an answer', async () => {
    const result = await client.infer({ target: 'public', feeds: row(1, 2, 3, 4), priority: 3, shardKey: 'k' });
    expect(result).toMatchObject({ model: 'times-2', version: 1, deployment: 'default', batchSize: 1 });
    expect(result.replica).toMatch(/^default-\d$/);
    expect(result.timings.totalMs).toBeGreaterThan(0);
    expect(result.outputs['y']?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
  });

  it('gives handlers anything, with the terms of the request', async () => {
    const options = { requestId: 'r-1', hints: { tokens: 5 }, shardKey: 'k', priority: 7 };
    expect(await client.run<unknown>('handler', { text: 'hello' }, options)).toStrictEqual({
      ...{ request: { text: 'hello' }, requestId: 'r-1', hints: { tokens: 5 }, shardKey: 'k', priority: 7 },
    });
    for (const value of ['text', 5, null, [1, { a: true }]]) {
      expect(await client.run<unknown>('handler', { value }, { method: 'answer' })).toStrictEqual(value);
    }
    expect(await client.run<unknown>('handler', 'a text')).toMatchObject({ request: 'a text' });
    const odd: unknown[] = [];
    const errors = { method: 'oddItems' };
    for await (const item of client.stream('handler', {}, errors)) odd.push(item);
    expect(odd).toStrictEqual([{ error: 'an item', code: 'INTERNAL' }]);
    const sum = await client.run<Outputs>(
      'handler',
      { x: { dims: [2], data: Float32Array.of(1, 2) } },
      { method: 'sum' },
    );
    expect(sum['sum']?.data).toStrictEqual(Float32Array.of(3));
  });

  it('yields the items of a stream as they come, and ends it when it wants no more', async () => {
    const items: unknown[] = [];
    for await (const item of client.stream('handler', { to: 4 }, { method: 'count' })) items.push(item);
    expect(items).toStrictEqual([{ index: 0 }, { index: 1 }, { index: 2 }, { index: 3 }]);
    const { ended } = await client.run<{ ended: number }>('handler', {}, { method: 'endedStreams' });
    for await (const item of client.stream<{ index: number }>('handler', { to: 1e12 }, { method: 'count' })) {
      if (item.index === 300) break;
    }
    const endedNow = async () => (await client.run<{ ended: number }>('handler', {}, { method: 'endedStreams' })).ended;
    await expect.poll(endedNow, { timeout: 10_000 }).toBe(ended + 1);
  });

  it('has the errors of the engine', async () => {
    const wrong = { x: { dims: [4], data: new Float32Array(4) } };
    expect(await codeOf(client.run('none', row(1, 2, 3, 4)))).toBe('MODEL_NOT_FOUND');
    expect(await codeOf(client.run('times-2', wrong))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(client.run('look-up', { index: { dims: [1, 1], data: BigInt64Array.of(9n) } }))).toBe(
      'INFERENCE_FAILED',
    );
    expect(await codeOf(client.run<unknown>('handler', {}, { method: 'fail' }))).toBe('INFERENCE_FAILED');
    expect(await codeOf(client.run<unknown>('handler', { ms: 60_000 }, { method: 'wait', timeoutMs: 50 }))).toBe(
      'DEADLINE_EXCEEDED',
    );
    expect(await codeOf(client.run('times-2', row(1, 2, 3, 4), { labels: { a: 'b' } }))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(client.run('times-2', row(1, 2, 3, 4), { priority: -1 }))).toBe('INVALID_ARGUMENT');
    const stream = client.stream('handler', { to: 3, throwAt: 1 }, { method: 'count' });
    const items: unknown[] = [];
    const failed = codeOf(
      (async () => {
        for await (const item of stream) items.push(item);
      })(),
    );
    expect(await failed).toBe('INFERENCE_FAILED');
    expect(items).toStrictEqual([{ index: 0 }]);
    const error = await client.run('none', row(1, 2, 3, 4)).catch((cause) => cause);
    expect(error).toBeInstanceOf(InfermuxError);
    expect(error.message).toContain('no model "none"');
  });

  it('cancels its request when its signal is aborted', async () => {
    const controller = new AbortController();
    const code = codeOf(client.run<unknown>('handler', { ms: 60_000 }, { method: 'wait', signal: controller.signal }));
    const ongoing = () => served.engine.deployments.get('handler').ongoing;
    await expect.poll(ongoing).toBe(1);
    controller.abort();
    expect(await code).toBe('CANCELLED');
    const { signal } = controller;
    const stream = client.stream('handler', { to: 1e12 }, { method: 'count', signal })[Symbol.asyncIterator]();
    expect(await codeOf(stream.next())).toBe('CANCELLED');
    await expect.poll(ongoing, { timeout: 10_000 }).toBe(0);
    expect(await codeOf(client.run('times-2', row(1, 2, 3, 4), { signal: controller.signal }))).toBe('CANCELLED');
  });

  it('lists, describes, loads and unloads models', async () => {
    expect(await client.ready()).toBe(true);
    expect(await client.models.list()).toContainEqual({ id: 'times-3', version: 1, isReady: true, problem: undefined });
    expect(await client.models.get('times-3')).toStrictEqual({
      ...{ id: 'times-3', versions: [1], platform: 'onnxruntime_onnx' },
      inputs: [{ name: 'x', type: 'float32', shape: ['', 4] }],
      outputs: [{ name: 'y', type: 'float32', shape: ['', 4] }],
    });
    expect(await client.models.ready('times-3')).toBe(true);
    await client.models.load('times-3');
    expect(served.engine.models.get('times-3').replicas.some(({ state }) => state === 'loaded')).toBe(true);
    await client.models.unload('times-3');
    expect(await codeOf(client.models.get('none'))).toBe('MODEL_NOT_FOUND');
  });
});

describe('connect', () => {
  it('refuses addresses and options that are none', async () => {
    for (const address of ['', 'localhost:8000', 'ftp://x', 'http://', 5 as never]) {
      expect(await codeOf(connect(address)), String(address)).toBe('INVALID_ARGUMENT');
    }
    expect(await codeOf(connect('http://x', { retry: 3 } as never))).toBe('INVALID_ARGUMENT');
    expect(await codeOf(connect('http://x', { retries: -1 }))).toBe('INVALID_ARGUMENT');
  });

  it.each(['http://127.0.0.1:1', 'grpc://127.0.0.1:1'])('tells that nobody is at %s', async (address) => {
    const client = await connect(address, { retries: 1 });
    const error = await client.run('m', row(1, 2, 3, 4)).catch((cause) => cause);
    expect(error).toMatchObject({
      code: 'REPLICA_FAILED',
      retryable: true,
      message: expect.stringContaining('cannot be reached'),
    });
    expect(await client.ready()).toBe(false);
    await client.close();
  });

  it('loads neither the engine nor the protocol that is not used', () => {
    const script = `
      import { registerHooks } from 'node:module';
      const { connect } = await import(${JSON.stringify(fileURLToPath(new URL('../../dist/client/index.js', import.meta.url)))});
      const client = await connect('http://127.0.0.1:1');
      await client.close();
      const loaded = process.report.getReport().sharedObjects.filter((file) => file.includes('onnxruntime'));
      const { default: module } = await import('node:module');
      const cached = Object.keys(module._cache);
      process.stdout.write(JSON.stringify({ loaded, cached: cached.filter((file) => /piscina|prom-client|grpc/.test(file)) }));`.replace(
      "import { registerHooks } from 'node:module';",
      '',
    );
    const text = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(JSON.parse(text)).toStrictEqual({ loaded: [], cached: [] });
  });
});

describe('tries again', () => {
  let server: Server;
  let answers: ((index: number) => { status: number; body: object } | 'reset')[] = [];
  let asked: string[] = [];
  let url: string;
  beforeAll(async () => {
    server = createHttpServer((request, response) => {
      asked.push(`${request.method} ${request.url}`);
      const answer = answers.shift()?.(asked.length) ?? 'reset';
      request.resume();
      request.on('end', () => {
        if (answer === 'reset') request.socket.destroy();
        else response.writeHead(answer.status, { 'content-type': 'application/json' }).end(JSON.stringify(answer.body));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  const ok = () => ({
    status: 200,
    body: { model_name: 'm', model_version: '1', outputs: [{ name: 'y', datatype: 'FP32', shape: [1], data: [7] }] },
  });
  const busy = (status: number, body: object) => () => ({ status, body });

  it.each([
    ['a connection that broke', [() => 'reset' as const, ok], 2, 'answered'],
    ['a server that gave the connection up before it', [busy(408, { error: 'Request Timeout' }), ok], 2, 'answered'],
    ['a server that cannot answer now', [busy(503, { error: 'not now' }), ok], 2, 'answered'],
    [
      'no more often than it is told',
      [busy(503, { error: 'a' }), busy(503, { error: 'b' }), busy(503, { error: 'c' }), ok],
      3,
      'REPLICA_FAILED',
    ],
    ['not after a refusal', [busy(400, { error: 'wrong' }), ok], 1, 'INVALID_ARGUMENT'],
    ['not when the server is full', [busy(429, { error: 'full' }), ok], 1, 'QUEUE_FULL'],
  ])('a run of a model: %s', async (_, given, tries, expected) => {
    answers = [...given];
    asked = [];
    const client = await connect(url);
    expect(await codeOf(client.run('m', row(1, 2, 3, 4)))).toBe(expected);
    expect(asked).toHaveLength(tries);
    await client.close();
  });

  it('a request of a handler that the server has not had', async () => {
    answers = [busy(408, {}), ok];
    asked = [];
    const client = await connect(url);
    expect(await codeOf(client.run<unknown>('handler', { do: 'something' }))).toBe('answered');
    expect(asked).toHaveLength(2);
    await client.close();
  });

  it.each([
    ['without an error', constants.NGHTTP2_NO_ERROR],
    ['as an error', constants.NGHTTP2_INTERNAL_ERROR],
    ['as cancelled', constants.NGHTTP2_CANCEL],
  ])('a call that a proxy resets %s in the middle of its answer, unless it is of a handler', async (_, code) => {
    const message = Buffer.from([0, 0, 0, 0, 3, 10, 1, 'm'.charCodeAt(0)]);
    let calls = 0;
    const proxy = createHttp2Server();
    proxy.on('stream', (stream) => {
      calls += 1;
      const isBroken = calls === 1;
      stream.on('error', () => undefined);
      stream.respond({ 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.once('wantTrailers', () => stream.sendTrailers({ 'grpc-status': 0 }));
      if (isBroken) stream.write(message, () => stream.close(code));
      else stream.end(message);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const client = await connect(`grpc://127.0.0.1:${(proxy.address() as AddressInfo).port}`, { retries: 1 });
    expect(await client.run('m', row(1, 2, 3, 4))).toStrictEqual({});
    expect(calls).toBe(2);
    calls = 0;
    expect(await codeOf(client.run<unknown>('handler', { do: 'something' }))).toBe('REPLICA_FAILED');
    expect(calls).toBe(1);
    await client.close();
    await new Promise((resolve) => proxy.close(resolve));
  });

  it('a stream that the server has not had, and none that may have begun', async () => {
    const client = await connect(url);
    const take = async () => {
      for await (const _ of client.stream('handler', { do: 'something' })) throw new Error('there is no item');
    };
    answers = [busy(408, {}), busy(200, {})];
    asked = [];
    expect(await codeOf(take())).toBe('answered');
    expect(asked).toHaveLength(2);
    answers = [() => 'reset', busy(200, {})];
    asked = [];
    expect(await codeOf(take())).toBe('REPLICA_FAILED');
    expect(asked).toHaveLength(1);
    await client.close();
  });

  it('no request of a handler that may have begun', async () => {
    answers = [() => 'reset', ok];
    asked = [];
    const client = await connect(url);
    expect(await codeOf(client.run<unknown>('handler', { do: 'something' }))).toBe('REPLICA_FAILED');
    expect(asked).toHaveLength(1);
    // Only handlers have methods, also where the request is of tensors.
    expect(await codeOf(client.run('handler', row(1, 2, 3, 4), { method: 'sum' }))).toBe('answered');
    answers = [() => 'reset', ok];
    asked = [];
    expect(await codeOf(client.run('handler', row(1, 2, 3, 4), { method: 'sum' }))).toBe('REPLICA_FAILED');
    expect(asked).toHaveLength(1);
    await client.close();
  });

  it('and tells when to come back', async () => {
    answers = [busy(429, { error: 'full', code: 'QUEUE_FULL', retryAfterMs: 1_500 })];
    const client = await connect(url);
    expect(await client.run('m', row(1, 2, 3, 4)).catch((cause) => cause)).toMatchObject({
      code: 'QUEUE_FULL',
      retryAfterMs: 1_500,
    });
    await client.close();
  });
});
