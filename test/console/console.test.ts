import { createServer as createHttpServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ASSET_NAMES } from '../../dist/console/assets.js';
import { createConsole, type MountedConsole } from '../../dist/console/index.js';
import type { Snapshot, TrialRequest, TrialResult } from '../../dist/console/messages.js';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { codeOf } from '../support/code-of.js';
import { identityModel, modelDirectory, scaleModel } from '../support/onnx-models.js';
import { TENSOR_TYPES } from '../support/tensors.js';

const MOST_BYTES = 150_000;
const x = { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) };

let engine: InferenceEngine;
const open: { server: Server; console: MountedConsole }[] = [];
beforeAll(async () => {
  const models = modelDirectory({
    ...{ 'times-2': scaleModel(2), 'times-3': scaleModel(3), identity: identityModel(TENSOR_TYPES) },
    broken: Uint8Array.of(8, 1, 2),
  });
  engine = await createEngine({ models, replicas: 2, maxModelsPerReplica: 1 });
  await engine.endpoints.set('public', { traffic: { 'times-2': 0.75, 'times-3': 0.25 }, shadow: { 'times-3': 0.5 } });
});
afterAll(async () => {
  for (const { server, console } of open) {
    console.close();
    server.close();
  }
  await engine.close();
});

/** Resolves to the address of a server of one's own that has the console. */
async function serve(options: Parameters<typeof createConsole>[1] = {}): Promise<string> {
  const console = createConsole(engine, options);
  const server = createHttpServer(console.handler);
  open.push({ server, console });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Reads snapshots until one is as wanted. */
async function snapshotWith(address: string, isWanted: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  const leaving = new AbortController();
  const { body } = await fetch(`${address}/api/events`, { signal: leaving.signal });
  let text = '';
  for await (const piece of (body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += piece;
    const messages = text.split('\n\n');
    text = messages.pop() ?? '';
    for (const message of messages) {
      const snapshot = JSON.parse(message.replace(/^data: /, '')) as Snapshot;
      if (!isWanted(snapshot)) continue;
      leaving.abort();
      return snapshot;
    }
  }
  throw new Error('the stream ended');
}

const post = async (url: string, body: string, headers: Record<string, string> = {}) => {
  const response = await fetch(url, { method: 'POST', body, headers });
  return {
    status: response.status,
    answer: (await response.json()) as { readonly error?: string; readonly outputs: TrialResult['outputs'] },
  };
};

describe('the console of one’s own server', () => {
  it('is a page of less than 150 kB that asks for nothing from elsewhere', async () => {
    const address = await serve();
    const texts = await Promise.all(
      ASSET_NAMES.map(async (name) => {
        const response = await fetch(`${address}/console/${name}`);
        expect(response.status, name).toBe(200);
        expect(response.headers.get('content-security-policy'), name).toContain("default-src 'none'");
        return response.text();
      }),
    );
    expect(texts.reduce((sum, text) => sum + text.length, 0)).toBeLessThan(MOST_BYTES);
    expect(gzipSync(texts.join('')).length).toBeLessThan(MOST_BYTES / 2);
    const [page] = texts;
    expect([...(page as string).matchAll(/(?:src|href)="(?!#|data:)([^"]+)"/g)].map(([, link]) => link)).toStrictEqual([
      ...['uplot.css', 'style.css', 'uplot.js', 'app.js'],
    ]);
    expect(
      texts
        .slice(1)
        .join('')
        .match(/https?:\/\/(?!www\.w3\.org|github\.com\/leeoniya)/g) ?? [],
    ).toStrictEqual([]);
  });

  it('is found with and without a slash, and below any path', async () => {
    const usual = await serve();
    const redirect = await fetch(`${usual}/console`, { redirect: 'manual' });
    expect([redirect.status, redirect.headers.get('location')]).toStrictEqual([302, 'console/']);
    expect(await (await fetch(`${usual}/console`)).text()).toContain('<title>infermux</title>');
    const deep = await serve({ path: '/admin/models' });
    expect(await (await fetch(`${deep}/admin/models`)).text()).toContain('<title>infermux</title>');
    const root = await serve({ path: '' });
    expect(await (await fetch(root)).text()).toContain('<title>infermux</title>');
    // As Express gives it, which takes the path away.
    const mounted = createConsole(engine);
    const server = createHttpServer((request, response) => {
      const { url = '' } = request;
      const given = Object.assign(request, { originalUrl: url, url: url.replace(/^\/console/, '') || '/' });
      mounted.handler(given, response);
    });
    open.push({ server, console: mounted });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const express = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect((await fetch(`${express}/console`)).url).toBe(`${express}/console/`);
    expect((await fetch(`${express}/console/app.js`)).status).toBe(200);
    expect((await fetch(`${usual}/app.js`)).status).toBe(200);
  });

  it('tells what the engine does: models, replicas, deployments and endpoints', async () => {
    const address = `${await serve()}/console`;
    const seen = snapshotWith(address, ({ total }) => total.requests > 0);
    const load = setInterval(() => void engine.run('public', { x }).catch(() => undefined), 5);
    const snapshot = await seen.finally(() => clearInterval(load));
    expect(snapshot).toMatchObject({ isReady: true, isAdmin: false, modelCount: 4 });
    expect(snapshot.total.latency?.p99).toBeGreaterThan(0);
    expect(snapshot.replicas.map(({ id, state }) => [id, state])).toStrictEqual([
      ['default-0', 'running'],
      ['default-1', 'running'],
    ]);
    expect(snapshot.deployments).toMatchObject([
      { name: 'default', isReady: true, target: 2, running: 2, goal: 'reached' },
    ]);
    expect(snapshot.endpoints).toMatchObject([
      {
        name: 'public',
        traffic: [{ target: 'times-2', share: 0.75 }, {}],
        shadows: [{ target: 'times-3', share: 0.5 }],
      },
    ]);
  });

  it('tells of loads and evictions, also those before the page was open, and why requests failed', async () => {
    const address = `${await serve()}/console`;
    await engine.models.load('identity', { replicas: 'all' });
    await engine.models.load('times-2', { replicas: 'all' });
    const seen = snapshotWith(address, ({ errors }) => errors.length === 2);
    const load = setInterval(() => {
      void engine.run('times-2', {}).catch(() => undefined);
      void engine.run('broken', { x }).catch(() => undefined);
    }, 50);
    const { events, errors } = await seen.finally(() => clearInterval(load));
    const kinds = new Set(events.map(({ kind }) => kind));
    expect(kinds.has('load') && kinds.has('eviction') && kinds.has('load-failed')).toBe(true);
    expect(events.map(({ number }) => number)).toStrictEqual(
      events.map((_, index) => index + (events[0]?.number ?? 0)),
    );
    expect(errors.map(({ code }) => code).sort()).toStrictEqual(['INVALID_ARGUMENT', 'MODEL_LOAD_FAILED']);
    expect(errors.find(({ code }) => code === 'INVALID_ARGUMENT')?.message).toContain('input "x"');
  });

  it('describes a model, and runs requests of the form', async () => {
    const address = `${await serve()}/console`;
    const described = await (await fetch(`${address}/api/model?model=times-2`)).json();
    expect(described).toMatchObject({ id: 'times-2', inputs: [{ name: 'x', type: 'float32' }] });
    const base64 = Buffer.from(x.data.buffer).toString('base64');
    const request: TrialRequest = { target: 'times-2', inputs: { x: { type: 'float32', dims: [1, 4], base64 } } };
    expect(await post(`${address}/api/infer`, JSON.stringify(request))).toMatchObject({
      status: 200,
      answer: {
        outputs: {
          y: {
            type: 'float32',
            dims: [1, 4],
            data: ['2', '4', '6', '8'],
            length: 4,
            top: [{ index: 3, value: 8 }, {}, {}, {}],
          },
        },
        batchSize: 1,
      },
    });
  });

  it('takes what a parser has made of the body, and says so where nothing is left of it', async () => {
    const mounted = createConsole(engine);
    const body = { target: 'times-2', inputs: { x: { type: 'float32', dims: [1, 4], data: [1, 2, 3, 4] } } };
    let given: unknown = body;
    const server = createHttpServer((request, response) => {
      request.resume().on('end', () => mounted.handler(Object.assign(request, { body: given }), response));
    });
    open.push({ server, console: mounted });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/console/api/infer`;
    expect((await post(address, 'is parsed')).status).toBe(200);
    given = undefined;
    expect((await post(address, 'is read')).answer.error).toContain('mount the console before parsers of bodies');
  });

  it('takes elements of every type, and shows them exactly', async () => {
    const address = `${await serve()}/console`;
    const element = (type: string) =>
      type === 'string'
        ? 'text'
        : type === 'bool'
          ? true
          : type.endsWith('64') && type !== 'float64'
            ? '9007199254740993'
            : 1;
    const inputs = Object.fromEntries(
      TENSOR_TYPES.map((type, index) => [`in${index}`, { type, dims: [1, 2], data: [element(type), element(type)] }]),
    );
    const { status, answer } = await post(`${address}/api/infer`, JSON.stringify({ target: 'identity', inputs }));
    expect(answer.error).toBeUndefined();
    expect(status).toBe(200);
    for (const [index, type] of TENSOR_TYPES.entries()) {
      const shown = type === 'bool' ? '1' : String(element(type));
      expect(answer.outputs[`out${index}`]?.data, type).toStrictEqual([shown, shown]);
    }
  });

  it.each([
    ['no JSON', '{', 400, 'must be JSON like'],
    ['null', 'null', 400, 'must be JSON like'],
    ['no inputs', '{"target":"times-2","inputs":null}', 400, 'must be JSON like'],
    ['an input that is nothing', '{"target":"times-2","inputs":{"x":null}}', 400, 'must be JSON like'],
    ['another type', '{"target":"times-2","inputs":{"x":{"type":"int5","dims":[1],"data":[1]}}}', 400, 'no such type'],
    ['no number', '{"target":"identity","inputs":{"in9":{"type":"int64","dims":[1],"data":["a"]}}}', 400, 'in9'],
    [
      'elements that are no list',
      '{"target":"times-2","inputs":{"x":{"type":"float32","dims":[1],"data":7}}}',
      400,
      'x',
    ],
    ['no shape', '{"target":"times-2","inputs":{"x":{"type":"float32","data":[7]}}}', 400, 'dims'],
    [
      'bytes of strings',
      '{"target":"identity","inputs":{"s":{"type":"string","dims":[1],"base64":"AA"}}}',
      400,
      'list',
    ],
    ['another model', '{"target":"none","inputs":{}}', 404, 'no model "none"'],
  ])('says what is wrong with %s', async (_, body, status, message) => {
    const address = `${await serve()}/console`;
    const result = await post(`${address}/api/infer`, body);
    expect(result.status).toBe(status);
    expect(result.answer.error).toContain(message);
  });

  it('changes nothing, unless its owner allows it', async () => {
    const reading = `${await serve()}/console`;
    expect((await post(`${reading}/api/admin/unload?model=times-2`, '')).status).toBe(404);
    const changing = `${await serve({ admin: true })}/console`;
    expect((await post(`${changing}/api/admin/load?model=times-3`, '')).status).toBe(200);
    expect(engine.models.get('times-3')?.replicas.some(({ state }) => state === 'loaded')).toBe(true);
    expect((await post(`${changing}/api/admin/unload?model=times-3`, '')).status).toBe(200);
    expect(engine.models.get('times-3')?.replicas.some(({ state }) => state === 'loaded')).toBe(false);
  });

  it('refuses pages of other sites', async () => {
    const address = `${await serve({ admin: true })}/console`;
    const { status, answer } = await post(`${address}/api/admin/load?model=times-3`, '', {
      origin: 'http://evil.example',
    });
    expect([status, answer.error]).toStrictEqual([400, 'pages of http://evil.example may not send requests']);
  });

  it.each([
    ['same-origin', 200],
    ['cross-site', 400],
    ['same-site', 400],
  ])('asks the browser which site is its own, where a proxy replaces the host: %s', async (site, status) => {
    const address = `${await serve({ admin: true })}/console`;
    const headers = { origin: 'https://public.example', 'sec-fetch-site': site };
    expect((await post(`${address}/api/admin/load?model=times-3`, '', headers)).status).toBe(status);
  });

  it.each([
    ['DELETE', '/api/model', 405],
    ['POST', '/app.js', 404],
    ['GET', '/__proto__', 404],
    ['GET', '/page/app.js', 404],
  ])('answers %s %s with %d', async (method, path, status) => {
    expect((await fetch(`${await serve()}/console${path}`, { method })).status).toBe(status);
  });

  it('keeps no place for clients that left while a login was checked', async () => {
    const mounted = createConsole(engine);
    const waiting: (() => void)[] = [];
    const server = createHttpServer((request, response) => {
      if (request.url?.endsWith('?slow')) waiting.push(() => mounted.handler(request, response));
      else mounted.handler(request, response);
    });
    open.push({ server, console: mounted });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/console`;
    const leaving = new AbortController();
    const gone = Array.from({ length: 70 }, () => fetch(`${address}/api/events?slow`, { signal: leaving.signal }));
    await expect.poll(() => waiting.length).toBe(70);
    leaving.abort();
    await Promise.allSettled(gone);
    await expect
      .poll(() => new Promise((resolve) => server.getConnections((_, count) => resolve(count))), { timeout: 5_000 })
      .toBe(0);
    for (const login of waiting) login();
    expect((await snapshotWith(address, () => true)).isReady).toBe(true);
  });

  it('shows the traffic of a model once, whatever versions it has', async () => {
    const two = modelDirectory({ 'm/1/model': scaleModel(2), 'm/2/model': scaleModel(3) });
    const own = await createEngine({ models: two, replicas: 1, repository: { versions: 'all' } });
    const mounted = createConsole(own);
    const server = createHttpServer(mounted.handler);
    open.push({ server, console: mounted });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/console`;
    const seen = snapshotWith(address, ({ models }) => models.some(({ requests }) => requests > 0));
    const load = setInterval(() => void own.run('m@1', { x }).catch(() => undefined), 5);
    const { models } = await seen.finally(() => clearInterval(load));
    expect(models.map(({ version, requests }) => [version, requests > 0])).toStrictEqual([
      [1, false],
      [2, true],
    ]);
    await own.close();
  });

  it('ends the streams of its pages when it is closed', async () => {
    const address = `${await serve()}/console`;
    const { body } = await fetch(`${address}/api/events`);
    const reader = (body as ReadableStream<Uint8Array>).getReader();
    await reader.read();
    open.at(-1)?.console.close();
    await expect.poll(async () => (await reader.read()).done).toBe(true);
    expect((await fetch(`${address}/api/events`)).status).toBe(503);
  });

  it.each([[{ path: 'console' }], [{ path: '/a b' }], [{ admin: 1 }], [{ other: 1 }]])(
    'refuses the options %j',
    (options) => {
      expect(() => createConsole(engine, options as never)).toThrow(/createConsole/);
    },
  );

  it('refuses what is no engine', async () => {
    expect(await codeOf((async () => createConsole({} as never))())).toBe('INVALID_ARGUMENT');
  });
});
