import { createReadStream, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  createEngine,
  type EngineOptions,
  type FindTerms,
  type FoundSource,
  httpFinder,
  type InferenceEngine,
  type InfermuxError,
  type ModelFinder,
} from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { HANDLER } from '../../support/engines/handlers-engine.js';
import { ModelServer } from '../../support/model-server.js';
import { scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let server: ModelServer;
let engine: InferenceEngine;
let cache: string;

async function start(options: EngineOptions): Promise<void> {
  engine = await createEngine({ replicas: 2, modelCache: { directory: cache }, ...options });
}

beforeEach(async () => {
  server = await ModelServer.start();
  cache = join(directory(), 'cache');
  for (const factor of [2, 3, 4]) server.serve(`times-${factor}`, scaleModel(factor));
  return () => server.close();
});

afterEach(() => engine?.destroy());

const feeds = { x: { dims: [1, 4], data: Float32Array.of(5, 0, 0, 0) } };
const first = ({ y }: Record<string, { data: unknown }>) => (y as { data: Float32Array }).data[0];
const ask = (target: string, options = {}) => engine.run(target, feeds, options).then(first);
const code = (call: Promise<unknown>) => call.then(String, (error: InfermuxError) => `${error.code}: ${error.message}`);

type Find = (id: string, terms: FindTerms) => unknown;

/** A finder that notes what it is asked. */
function finderOf(find: Find, more: Partial<ModelFinder> = {}) {
  const asked: string[] = [];
  const finder: ModelFinder = {
    find: (id, terms) => {
      asked.push(terms.version === undefined ? id : `${id}@${terms.version}`);
      return find(id, terms) as FoundSource | Promise<FoundSource>;
    },
    ...more,
  };
  return { finder, asked };
}

const onServer: Find = (id) => ({ url: server.url(id), allowHttp: true });

describe('a finder', () => {
  it('is asked once for many requests, and not again', async () => {
    const { finder, asked } = finderOf(onServer);
    await start({ models: finder });
    expect(await Promise.all(Array.from({ length: 40 }, () => ask('times-2')))).toEqual(Array(40).fill(10));
    expect(await ask('times-3')).toBe(15);
    expect(await ask('times-2')).toBe(10);
    expect(asked).toEqual(['times-2', 'times-3']);
    expect(server.requests).toEqual(['GET /times-2', 'GET /times-3']);
  });

  it.each<[string, () => unknown, string]>([
    ['a path', () => file(2), 'a path'],
    ['a file: URL', () => new URL(`file://${file(2)}`), 'a path'],
    ['bytes', () => scaleModel(2), 'bytes'],
    ['an ArrayBuffer', () => Uint8Array.from(scaleModel(2)).buffer, 'bytes'],
    ['a URL', () => ({ url: server.url('times-2').href, allowHttp: true }), 'a URL'],
    ['a web stream', () => new Blob([Uint8Array.from(scaleModel(2))]).stream(), 'stream'],
    ['a Readable', () => ({ stream: Readable.from([Buffer.from(scaleModel(2))]) }), 'stream'],
    ['a promise', async () => scaleModel(2), 'bytes'],
  ])('may answer with %s', async (_, find, origin) => {
    await start({ models: finderOf(find).finder });
    expect(await ask('m')).toBe(10);
    const report = engine.models.get('m');
    const origins: Record<string, unknown> = {
      'a path': expect.stringMatching(/^\//),
      'a URL': server.url('times-2').href,
    };
    expect(report.origin).toEqual(origins[origin] ?? origin);
    expect(Math.abs(Date.now() - (report.lookedAt ?? 0))).toBeLessThan(10_000);
  });

  it('may say more of a model, as in its model.json', async () => {
    const manifest = { batching: false, licence: 'MIT', version: 7, warmUp: [{ x: { dims: [1, 4] } }] } as const;
    const found = { bytes: scaleModel(2), manifest };
    await start({ models: finderOf(() => found).finder });
    const { model, version, outputs } = await engine.infer({ target: 'm', feeds });
    expect([model, version, first(outputs)]).toEqual(['m', 7, 10]);
    expect(engine.models.get('m@7')).toMatchObject({ licence: 'MIT', isDefault: true });
    expect((await engine.models.inspect('m')).whyNotBatched).toBeDefined();
  });

  it.each<[string, () => unknown, string]>([
    ['undefined', () => undefined, 'MODEL_NOT_FOUND: no model "m": the finder has found none'],
    ['null', () => null, 'MODEL_NOT_FOUND'],
    ['a URL with nothing there', () => ({ url: server.url('none'), allowHttp: true }), '/none'],
    ['a number', () => 7, 'MODEL_LOAD_FAILED: what the finder found for model "m" must be a path, a URL'],
    ['two places', () => ({ path: '/m', bytes: scaleModel(2) }), 'must have one of path, url, bytes and stream'],
    ['an unknown key', () => ({ path: '/m', sha: 'x' }), 'unknown key "sha"'],
    ['a path with nothing there', () => '/none/m.onnx', 'MODEL_LOAD_FAILED: model "m"'],
    ['a plain http: URL', () => ({ url: server.url('times-2') }), 'MODEL_LOAD_FAILED'],
    [
      'an error',
      () => Promise.reject(new Error('no answer')),
      'MODEL_LOAD_FAILED: the finder failed for model "m": no answer',
    ],
    [
      'a bad manifest',
      () => ({ bytes: scaleModel(2), manifest: { version: 0 } }),
      'MODEL_LOAD_FAILED: what the finder found for model "m".manifest: version',
    ],
    ['another hash', () => ({ bytes: scaleModel(2), sha256: 'a'.repeat(64) }), 'MODEL_LOAD_FAILED'],
    ['another size', () => ({ bytes: scaleModel(2), size: 1 }), 'MODEL_LOAD_FAILED'],
    [
      'too many bytes',
      () => scaleModel(2),
      'the stream of model "m@1" has more than 10 bytes, which maxModelBytes allows',
    ],
  ])('that answers with %s fails its requests', async (what, find, message) => {
    await start({ models: finderOf(find).finder, ...(what === 'too many bytes' && { maxModelBytes: 10 }) });
    expect(await code(ask('m'))).toContain(message);
  });

  it('is not asked again for a while after it failed, which grows', async () => {
    const { finder, asked } = finderOf(() => undefined);
    await start({ models: finder });
    for (const _ of [1, 2, 3]) expect(await code(ask('m'))).toContain('MODEL_NOT_FOUND');
    expect(asked).toEqual(['m']);
    const error = (await ask('m').catch((cause: unknown) => cause)) as InfermuxError;
    expect(error.retryable && (error.retryAfterMs ?? 0) <= 1_000).toBe(true);
    await until(async () => asked.length > 1 || !(await code(ask('m'))).includes('x'));
    await until(async () => {
      await code(ask('m'));
      return asked.length === 2;
    });
    const again = (await ask('m').catch((cause: unknown) => cause)) as InfermuxError;
    expect(again.retryAfterMs).toBeGreaterThan(1_000);
  });

  it('that does not answer is given up', async () => {
    let signal: AbortSignal | undefined;
    const never: Find = (_, terms) => {
      signal = terms.signal;
      return new Promise(() => undefined);
    };
    await start({ models: finderOf(never, { timeoutMs: 40 }).finder });
    expect(await code(ask('m'))).toBe('MODEL_LOAD_FAILED: the finder did not answer within 40 ms');
    expect(signal?.aborted).toBe(true);
  });

  it('is told when nobody waits any more', async () => {
    const signals: AbortSignal[] = [];
    const never: Find = (_, { signal }) => {
      signals.push(signal);
      return new Promise(() => undefined);
    };
    await start({ models: finderOf(never).finder });
    const controller = new AbortController();
    const calls = [ask('m', { signal: controller.signal }), ask('m', { timeoutMs: 30 })].map(code);
    expect(await calls[1]).toContain('DEADLINE_EXCEEDED');
    expect(signals.map(({ aborted }) => aborted)).toEqual([false]);
    controller.abort();
    expect(await calls[0]).toContain('CANCELLED');
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    // It is not remembered as a failure.
    void ask('m').catch(() => undefined);
    await until(() => signals.length === 2);
  });

  it('holds up no other model, and what waits for it counts as waiting', async () => {
    const { finder } = finderOf(() => new Promise(() => undefined));
    await start({ models: { 'times-2': scaleModel(2) }, finder, maxQueuedRequests: 3 });
    const waiting = Array.from({ length: 3 }, () => code(ask('m')));
    expect(engine.deployments.get('default').queued).toBe(3);
    expect(await code(ask('m'))).toContain('QUEUE_FULL');
    await engine.deployments.update('default', { maxQueuedRequests: 100 });
    for (let round = 0; round < 50; round += 1) expect(await ask('times-2')).toBe(10);
    await engine.destroy();
    expect((await Promise.all(waiting)).every((each) => each.startsWith('ENGINE_CLOSED'))).toBe(true);
  });

  it('finishes what waits for it when the engine closes', async () => {
    await start({ models: finderOf(onServer).finder });
    const answer = ask('times-2');
    await engine.close();
    expect(await answer).toBe(10);
  });

  it('is asked for what the directory does not have', async () => {
    const models = directory({ 'times-2.onnx': scaleModel(7) });
    const { finder, asked } = finderOf(onServer);
    await start({ models, finder });
    expect(await ask('times-2')).toBe(35);
    expect(await ask('times-3')).toBe(15);
    expect(asked).toEqual(['times-3']);
    // A look at the directory does not touch what was found elsewhere, until the directory has it, too.
    await engine.models.sync();
    expect(await ask('times-3')).toBe(15);
    writeFileSync(join(models, 'times-3.onnx'), scaleModel(9));
    await engine.models.sync();
    expect(await ask('times-3')).toBe(45);
    expect(engine.models.get('times-3').origin).toBeUndefined();
  });

  it('finds versions, each by its number, and what the id stands for by the id', async () => {
    const { finder, asked } = finderOf((_, { version = 3 }) => ({ bytes: scaleModel(version), version }));
    await start({ models: finder });
    expect([await ask('m@2'), await ask('m'), await ask('m@5')]).toEqual([10, 15, 25]);
    expect(await ask('m')).toBe(15);
    expect(asked).toEqual(['m@2', 'm', 'm@5']);
    expect(engine.models.list().map(({ version, isDefault }) => [version, isDefault])).toEqual([
      [2, false],
      [3, true],
      [5, false],
    ]);
    expect(await code(ask('m@x'))).toContain('MODEL_NOT_FOUND');
    expect(asked).toHaveLength(3);
  });

  it('is refused an answer of another version than the one asked for', async () => {
    await start({ models: finderOf(() => ({ bytes: scaleModel(2), version: 1 })).finder });
    expect(await code(ask('m@2'))).toContain('MODEL_LOAD_FAILED: the finder has found version 1 of model "m"');
  });

  it('is asked again when that is due, and a new version takes the place of the old one', async () => {
    let version = 2;
    const { finder, asked } = finderOf(() => ({ bytes: scaleModel(version), version }), { refreshMs: 20 });
    await start({ models: finder });
    expect(await ask('m')).toBe(10);
    version = 3;
    await until(async () => (await ask('m')) === 15);
    expect(asked.length).toBeGreaterThan(1);
    expect(engine.models.list().map((report) => report.version)).toEqual([3]);
  });

  it('that fails when it is asked again changes nothing', async () => {
    let isDown = false;
    const { finder, asked } = finderOf(() => (isDown ? Promise.reject(new Error('down')) : { bytes: scaleModel(2) }), {
      refreshMs: 1,
    });
    await start({ models: finder });
    expect(await ask('m')).toBe(10);
    isDown = true;
    await until(async () => {
      expect(await ask('m')).toBe(10);
      return asked.length > 1;
    });
    expect(await ask('m')).toBe(10);
  });

  it('may tell models apart by what comes after the path, but for a signature', async () => {
    const lastModified = 'Sat, 28 Nov 2026 12:00:00 GMT';
    // The validator that came with each URL.
    const asked = new Map<string, string | undefined>();
    const served = server.serve('m', scaleModel(2), {
      ...{ etag: undefined, lastModified },
      asked: ({ url = '', headers }) => asked.set(url, headers['if-modified-since']),
    });
    let query = 'rev=1&X-Amz-Signature=a';
    const find = () => ({ url: new URL(`?${query}`, server.url('m')), allowHttp: true });
    await start({ models: finderOf(find, { refreshMs: 0 }).finder });
    expect(await ask('m')).toBe(10);
    query = 'rev=1&X-Amz-Signature=b';
    await until(async () => (await ask('m')) === 10 && asked.get(`/m?${query}`) === lastModified);
    // With the same date.
    served.body = scaleModel(3);
    query = 'rev=2&X-Amz-Signature=b';
    await until(async () => (await ask('m')) === 15);
  });

  it('that has no such model any more takes it out of service', async () => {
    let isGone = false;
    const { finder } = finderOf(() => (isGone ? undefined : { bytes: scaleModel(2) }), { refreshMs: 1 });
    await start({ models: finder });
    expect(await ask('m')).toBe(10);
    isGone = true;
    await until(async () => (await code(ask('m'))).includes('MODEL_NOT_FOUND'));
    expect(engine.models.list()).toEqual([]);
  });

  it('serves on with a model whose successor does not load', async () => {
    let bytes: Uint8Array = scaleModel(2);
    const { finder, asked } = finderOf(() => ({ bytes, version: asked.length }), { refreshMs: 1 });
    await start({ models: finder });
    expect(await ask('m')).toBe(10);
    bytes = new TextEncoder().encode('no model');
    await until(async () => {
      expect(await ask('m')).toBe(10);
      return engine.models.get('m').problem !== undefined;
    });
    const asks = asked.length;
    await until(async () => {
      expect(await ask('m')).toBe(10);
      return asked.length > asks;
    });
    bytes = scaleModel(3);
    await until(async () => (await ask('m')) === 15);
  });

  it('keeps no version that does not load beside one that serves', async () => {
    const bytes = (version: number) => (version === 3 ? new TextEncoder().encode('no model') : scaleModel(version));
    await start({ models: finderOf((_, { version = 2 }) => ({ bytes: bytes(version), version })).finder });
    expect(await ask('m')).toBe(10);
    expect(await code(ask('m@3'))).toContain('MODEL_LOAD_FAILED');
    expect([await ask('m'), await ask('m@4')]).toEqual([10, 20]);
    expect(engine.models.list().map(({ version, problem }) => [version, problem])).toEqual([
      [2, undefined],
      [4, undefined],
    ]);
  });

  it('is not asked for versions of a model that a directory has, nor for ids that are none', async () => {
    const folder = directory();
    writeFileSync(join(folder, 'm.onnx'), scaleModel(2));
    const { finder, asked } = finderOf(() => scaleModel(3));
    await start({ models: folder, finder });
    expect(await code(ask('m@9'))).toContain('MODEL_NOT_FOUND: no model "m@9"; versions of "m": 1');
    for (const id of ['', 7, 'x'.repeat(10_000)])
      for (const call of [ask(id as string), engine.models.load(id as string)])
        expect(await code(call)).toContain('INVALID_ARGUMENT: model id');
    expect(asked).toEqual([]);
  });

  it('has the stream cancelled that cannot be taken', async () => {
    const cancelled: string[] = [];
    const stream = () => new ReadableStream({ cancel: () => void cancelled.push('one') });
    const answers = [() => ({ stream: stream(), sha256: 'none' }), () => ({ stream: stream(), size: 100 })];
    const { finder } = finderOf((id) => answers[Number(id)]?.());
    await start({ models: finder, maxModelBytes: 99 });
    expect(await code(ask('0'))).toContain('sha256 must be 64 hexadecimal digits');
    expect(await code(ask('1'))).toContain('model "1" has 100 bytes; maxModelBytes allows 99');
    await until(() => cancelled.length === 2);
  });

  it('has the streams cancelled that nobody waits for any more, also those that wait for their turn', async () => {
    const cancelled: string[] = [];
    const { finder, asked } = finderOf((id) => new ReadableStream({ cancel: () => void cancelled.push(id) }));
    await start({ models: finder });
    const ids = Array.from({ length: 6 }, (_, index) => `m${index}`);
    const controller = new AbortController();
    const answers = ids.map((id) => code(ask(id, { signal: controller.signal })));
    await until(() => asked.length === 6);
    controller.abort();
    for (const answer of await Promise.all(answers)) expect(answer).toContain('CANCELLED');
    await until(() => cancelled.length === 6);
    expect(cancelled.sort()).toEqual(ids);
  });

  it('may answer with a stream that fails before it is read, or that nobody reads', async () => {
    const stream = () => createReadStream('/nowhere/model.onnx');
    const answers = [stream, () => ({ stream: stream() }), () => ({ stream: stream(), size: 100 })];
    await start({ models: finderOf((id) => answers[Number(id)]?.()).finder, maxModelBytes: 99 });
    expect(await code(ask('0'))).toContain('MODEL_LOAD_FAILED: the stream of model "0@1" failed: ENOENT');
    expect(await code(ask('1'))).toContain('MODEL_LOAD_FAILED: the stream of model "1@1" failed: ENOENT');
    expect(await code(ask('2'))).toContain('has 100 bytes; maxModelBytes allows 99');
  });

  it('may answer with what cannot be read: that is its fault, and no other', async () => {
    const trap = {
      get path() {
        throw new Error('trapped');
      },
    };
    await start({ models: finderOf((id) => (id === 'trap' ? trap : scaleModel(2))).finder });
    expect(await code(ask('trap'))).toContain('MODEL_LOAD_FAILED: what the finder found for model "trap"');
    expect(await ask('m')).toBe(10);
  });

  it('is checked when the engine starts', async () => {
    const bad = (finder: unknown) => code(createEngine({ finder: finder as ModelFinder }));
    expect(await bad({})).toContain('INVALID_ARGUMENT: options.finder must be a finder');
    expect(await bad({ find: () => undefined, timeoutMs: 'soon' })).toContain('options.finder.timeoutMs');
    const twice = createEngine({ models: finderOf(onServer).finder, finder: finderOf(onServer).finder });
    expect(await code(twice)).toContain('INVALID_ARGUMENT: options.models is a finder, and options.finder another');
  });
});

/** The path of a model's file. */
function file(factor: number): string {
  return join(directory({ 'm.onnx': scaleModel(factor) }), 'm.onnx');
}

describe('the models that a finder has found', () => {
  it('are loaded, listed, measured, unloaded and undeployed as others are', async () => {
    const { finder, asked } = finderOf(onServer);
    await start({ models: finder });
    expect(await engine.models.load('times-2', { replicas: 'all' })).toMatchObject({ id: 'times-2', version: 1 });
    expect(engine.models.size('times-2')).toBe(scaleModel(2).length);
    expect(engine.models.list().map(({ id }) => id)).toEqual(['times-2']);
    const each = engine.models.estimateSize('times-2');
    expect(await engine.models.unload('times-2')).toBe(2 * each);
    expect(await ask('times-2')).toBe(10);
    const { path = '' } = engine.models.get('times-2');
    await engine.models.undeploy('times-2');
    expect([existsSync(path), engine.models.list()]).toEqual([false, []]);
    expect(await ask('times-2')).toBe(10);
    expect(asked).toEqual(['times-2', 'times-2']);
  });

  it('are undeployed version by version, and not by a search that goes on', async () => {
    let isSlow = false;
    const { finder, asked } = finderOf(
      async (_, { version = 2, signal }) => {
        if (isSlow) await new Promise((resolve) => signal.addEventListener('abort', resolve));
        return { bytes: scaleModel(version), version };
      },
      { refreshMs: 0 },
    );
    await start({ models: finder });
    expect([await ask('m'), await ask('m@3')]).toEqual([10, 15]);
    await until(async () => (await ask('m')) === 10 && asked.length > 3);
    isSlow = true;
    await ask('m@3');
    await engine.models.undeploy('m@3');
    expect(engine.models.list().map(({ version }) => version)).toEqual([2]);
    expect(await code(engine.models.undeploy('m@3'))).toContain('MODEL_NOT_FOUND: no model "m@3"');
    await engine.models.undeploy('m');
    expect(engine.models.list()).toEqual([]);
    expect(await code(engine.models.undeploy('none'))).toContain('MODEL_NOT_FOUND: no model "none"');
  });

  it('that lie in a file of the user stay there when they are undeployed', async () => {
    const path = file(2);
    await start({ models: finderOf(() => path).finder });
    expect(await ask('m')).toBe(10);
    await engine.models.undeploy('m');
    expect(existsSync(path)).toBe(true);
  });

  it.each([
    [2, true, 'auto'],
    [50, true, 'auto'],
    [50, true, false],
    [50, false, 'auto'],
  ] as const)(
    'are found again, and none of %s requests fails, when their files have left the cache, which stays: %s; batching %s',
    async (count, staysThere, batching) => {
      await start({ models: finderOf(onServer).finder, batching });
      expect(await ask('times-2')).toBe(10);
      await engine.models.unloadAll();
      if (staysThere) for (const name of readdirSync(cache)) rmSync(join(cache, name), { recursive: true });
      else rmSync(cache, { recursive: true });
      const answers = Array.from({ length: count }, () => ask('times-2'));
      expect(await Promise.all(answers)).toEqual(Array(count).fill(10));
      expect(server.count('times-2')).toBe(2);
      expect(await ask('times-3')).toBe(15);
    },
  );

  it('and cannot be loaded are not kept: they may be mended where they come from', async () => {
    server.serve('m', new TextEncoder().encode('no model'));
    await start({ models: finderOf(onServer).finder });
    expect(await code(ask('m'))).toContain('MODEL_LOAD_FAILED');
    await until(() => engine.models.list().length === 0);
    await until(() => readdirSync(cache).filter((name) => /^[\da-f]{64}$/.test(name)).length === 0);
    // It is remembered for a while.
    expect(await code(ask('m'))).toContain('MODEL_LOAD_FAILED');
    expect(server.count('m')).toBe(1);
    server.serve('m', scaleModel(2));
    await until(async () => (await ask('m').catch(() => 0)) === 10);
    expect(server.count('m')).toBe(2);
  });

  it('leave the cache when it is full, but for those in use, and are found again', async () => {
    const size = scaleModel(2).length;
    await start({
      ...{ models: finderOf(onServer).finder, replicas: 1, maxModelsPerReplica: 1 },
      modelCache: { directory: cache, maxBytes: 2 * size },
    });
    for (const factor of [2, 3, 4, 2, 3, 4]) {
      expect(await ask(`times-${factor}`)).toBe(5 * factor);
      expect(readdirSync(cache).filter((name) => /^[\da-f]{64}$/.test(name)).length).toBeLessThanOrEqual(2);
    }
    expect(server.count('times-2')).toBe(2);
    expect(existsSync(dirname(engine.models.get('times-4').path ?? ''))).toBe(true);
  });

  it('are run by handlers', async () => {
    await start({ models: finderOf(onServer).finder, deployments: { app: { handler: HANDLER } } });
    const request = (model: string) => ({ do: 'run', model, x: feeds.x.data });
    expect(await engine.run<number>('app', request('times-2'))).toBe(10);
    expect(await code(engine.run<number>('app', request('none')))).toContain('MODEL_NOT_FOUND');
  });

  it('are run by handlers for which they must leave the cache, or after they were undeployed', async () => {
    const size = scaleModel(2).length;
    const handler = new URL('../../support/concurrent-handler.mjs', import.meta.url);
    await start({
      ...{ models: finderOf(onServer).finder, deployments: { app: { handler } } },
      modelCache: { directory: cache, maxBytes: size },
    });
    expect(await ask('times-2')).toBe(10);
    await engine.models.unloadAll();
    expect(await engine.run<number>('app', { do: 'run', model: 'times-3', x: 5 })).toBe(15);
    const late = engine.run<number>('app', { do: 'run', model: 'times-3', x: 5, ms: 100 });
    await until(() => engine.deployments.get('app').ongoing === 1);
    const undeployed = engine.models.undeploy('times-3');
    expect(await late).toBe(15);
    await undeployed;
  });

  it('stay pinned from one engine to the next', async () => {
    const checkpoint = { file: join(directory(), 'checkpoint.json') };
    await start({ models: finderOf(onServer).finder, checkpoint });
    await engine.models.load('times-2', { pin: true, replicas: 'all' });
    await engine.close();
    await start({ models: finderOf(onServer).finder, checkpoint });
    expect(engine.models.get('times-2')).toMatchObject({
      isPinned: true,
      replicas: [{ state: 'loaded' }, { state: 'loaded' }],
    });
    expect(server.sent).toBe(scaleModel(2).length);
  });

  it('are all loaded at the start where that is wished, if the finder lists them', async () => {
    const list = () => ['times-2', 'times-3', 'none'];
    await start({ models: finderOf(onServer, { list }).finder, repository: { loadOnStart: true } });
    expect(
      engine.models
        .list()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(['times-2', 'times-3']);
  });

  it('are not waited for at the start for ever, nor taken from a list that is none', async () => {
    const lists = [
      () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }) }),
      () => [7] as unknown as string[],
      () => Promise.reject(new Error('no list')),
    ];
    for (const list of lists) {
      const warnings: string[] = [];
      const logger = { warn: (fields: { reason?: unknown }) => void warnings.push(String(fields.reason)) };
      await start({
        ...{ models: { ...finderOf(onServer).finder, list, timeoutMs: 20 }, repository: { loadOnStart: true } },
        logger: { ...logger, info: () => undefined, error: () => undefined, debug: () => undefined } as never,
      });
      await until(() => warnings.length === 1);
      expect(warnings[0]).toMatch(/did not answer within 20 ms|model id must be a string, got 7|no list/);
      expect(await ask('times-2')).toBe(10);
      await engine.destroy();
    }
  });

  it('are refused while nothing is loaded at a request', async () => {
    await start({ models: finderOf(onServer).finder, repository: { lazy: false } });
    expect(await code(ask('times-2'))).toContain('FAILED_PRECONDITION');
    await engine.models.load('times-2');
    expect(await ask('times-2')).toBe(10);
  });

  it('share their weights', async () => {
    const weightStore = { directory: join(directory(), 'weights') };
    await start({ models: finderOf(onServer).finder, weights: 'shared', weightStore });
    expect(await ask('times-2')).toBe(10);
  });
});

describe('httpFinder', () => {
  const finder = (more = {}) => httpFinder({ baseUrl: server.base, allowHttp: true, ...more });

  it('finds a model, its model.json and its versions', async () => {
    server.serve('m/model.onnx', scaleModel(2));
    server.serve('m/model.json', new TextEncoder().encode('{ "licence": "MIT" }'));
    server.serve('m/4/model.onnx', scaleModel(4));
    server.serve('org/deep name/model.onnx', scaleModel(3));
    await start({ finder: finder() });
    expect([await ask('m'), await ask('m@4'), await ask('org/deep name')]).toEqual([10, 20, 15]);
    expect(engine.models.get('m').licence).toBe('MIT');
    expect(await code(ask('m@5'))).toContain('MODEL_NOT_FOUND');
  });

  it('goes by an index of versions, where there is one', async () => {
    const index = { versions: { 1: {}, 12: { file: 'twelve/model.onnx' }, 3: { sha256: 'c'.repeat(64) } } };
    server.serve('m/index.json', new TextEncoder().encode(JSON.stringify(index)));
    server.serve('m/1/model.onnx', scaleModel(2));
    server.serve('m/3/model.onnx', scaleModel(3));
    server.serve('m/twelve/model.onnx', scaleModel(4));
    await start({ finder: finder() });
    expect([await ask('m'), await ask('m@1')]).toEqual([20, 10]);
    expect(await code(ask('m@3'))).toContain(`expected ${'c'.repeat(64)}`);
    expect(await code(ask('m@2'))).toContain('MODEL_NOT_FOUND');
  });

  it.each([
    ['{', 'it is no index of a model'],
    ['{ "versions": {} }', 'it names no versions'],
    ['{ "versions": { "0": {} } }', '0 is no version'],
    ['{ "versions": { "1": { "file": "../n/model.onnx" } } }', 'index.json names a file elsewhere'],
    ['{ "versions": { "1": { "file": "https://example.org/model.onnx" } } }', 'index.json names a file elsewhere'],
  ])('refuses the index %s', async (text, message) => {
    server.serve('m/index.json', new TextEncoder().encode(text));
    await start({ finder: finder() });
    expect(await code(ask('m'))).toContain(message);
  });

  it.each([
    '..',
    '../secret',
    'a/../../secret',
    '.',
    'a//b',
    '/a',
    '%2e%2e/secret',
    '..%2fsecret',
    'a?b',
    'a#b',
    'http://127.0.0.1/x',
    'a\\..\\b',
  ])('never leaves its base for the id %s', async (id) => {
    await start({ finder: httpFinder({ baseUrl: `${server.base}base`, allowHttp: true }) });
    expect(await code(ask(id))).toContain('MODEL_NOT_FOUND');
    expect(server.requests.filter((request) => !request.startsWith('GET /base/'))).toEqual([]);
  });

  it('notices a new version by itself', async () => {
    server.serve('m/model.onnx', scaleModel(2));
    await start({ finder: finder({ refreshMs: 10 }) });
    expect(await ask('m')).toBe(10);
    const { sent } = server;
    await until(async () => (await ask('m')) === 10 && server.count('m/model.onnx') > 2);
    expect(server.sent).toBe(sent);
    server.serve('m/model.onnx', scaleModel(3));
    await until(async () => (await ask('m')) === 15);
  });

  it('sends headers, and signs', async () => {
    server.serve('m/model.onnx', scaleModel(2));
    const sign = ({ url, headers }: { url: string; headers: Readonly<Record<string, string>> }) =>
      new Request(url, { headers: { ...headers, authorization: 'signed' } });
    await start({ finder: finder({ headers: { 'x-key': 'k' }, sign }) });
    expect(await ask('m')).toBe(10);
    expect(server.headers.map((headers) => [headers['x-key'], headers.authorization])).toEqual(
      Array(3).fill(['k', 'signed']),
    );
  });

  it.each([
    [{}, 'baseUrl'],
    [{ baseUrl: 'models' }, 'baseUrl'],
    [{ baseUrl: 'http://example.org' }, 'allowHttp: true allows it'],
    [{ baseUrl: 'https://example.org', sign: 1 }, 'sign'],
    [{ baseUrl: 'https://example.org', base: 1 }, 'unknown key'],
  ])('refuses the options %o', (options, message) => {
    expect(() => httpFinder(options as never)).toThrow(message);
  });
});
