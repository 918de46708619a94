import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../../dist/common/clock.js';
import { InfermuxError } from '../../../dist/common/errors.js';
import { ENTRY, nameKey } from '../../../dist/models/cache/entry-files.js';
import { ModelCache, type RemoteModel } from '../../../dist/models/cache/model-cache.js';
import type { RemoteFile } from '../../../dist/models/cache/remote-file.js';
import { directory } from '../../support/directories.js';
import { ModelServer } from '../../support/model-server.js';
import { externalModel, scaleModel } from '../../support/onnx-models.js';

let server: ModelServer;
let folder: string;
let received: number;
const inUse = new Set<string>();
const left: string[] = [];
const never = new AbortController().signal;

beforeEach(async () => {
  server = await ModelServer.start();
  folder = join(directory(), 'cache');
  received = 0;
  inUse.clear();
  left.length = 0;
  return () => server.close();
});

afterEach(() => {
  // Nothing half is ever in the place of something whole.
  for (const name of existsSync(folder) ? readdirSync(folder) : [])
    if (/^[\da-f]{64}$/.test(name))
      expect(readdirSync(join(folder, name)).filter((each) => each.includes('part'))).toEqual([]);
});

function cacheOf({ maxBytes = 2 ** 30, maxModelBytes = 2 ** 30, clock = systemClock } = {}): ModelCache {
  return new ModelCache(
    { directory: folder, maxBytes, maxModelBytes },
    {
      clock,
      release: async (entry) => {
        if (inUse.has(entry)) return false;
        left.push(entry);
        return true;
      },
      received: (bytes) => {
        received += bytes;
      },
    },
  );
}

function remote(
  path: string,
  more: Partial<RemoteModel> & { headers?: Record<string, string>; allowHttp?: boolean } = {},
): RemoteModel {
  const { headers = {}, allowHttp = true, ...rest } = more;
  const file = { url: server.url(path), headers, sign: undefined, allowHttp };
  return { name: path, fileName: 'model.onnx', bytes: undefined, sha256: undefined, file, ...rest };
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const bytes = (size: number, seed = 1) => Uint8Array.from({ length: size }, (_, index) => (index * seed) % 251);
const outcome = (call: Promise<unknown>) =>
  call.then(
    (value) => value,
    (error: unknown) => (error instanceof InfermuxError ? `${error.code} ${error.retryable}: ${error.message}` : error),
  );
const contents = async (call: Promise<string | undefined>) => new Uint8Array(readFileSync((await call) as string));

describe('a model on a server', () => {
  it('is downloaded once, and asked for by its validator after that, also by another process', async () => {
    const body = bytes(100_000);
    server.serve('m', body);
    expect(await contents(cacheOf().fetch(remote('m'), never))).toEqual(body);
    expect(await contents(cacheOf().fetch(remote('m'), never))).toEqual(body);
    expect(server.sent).toBe(100_000);
    expect(received).toBe(100_000);
    expect(server.requests).toEqual(['GET /m', 'GET /m']);
  });

  it('is downloaded again when it is another one', async () => {
    server.serve('m', bytes(10));
    const before = await cacheOf().fetch(remote('m'), never);
    server.serve('m', bytes(10, 3));
    const after = await cacheOf().fetch(remote('m'), never);
    expect(after).not.toBe(before);
    expect(await contents(Promise.resolve(after))).toEqual(bytes(10, 3));
    expect(existsSync(before as string)).toBe(true);
  });

  it('is told apart by its date where there is no ETag', async () => {
    server.serve('m', bytes(10), { etag: undefined, lastModified: 'Sat, 28 Nov 2026 10:00:00 GMT' });
    for (const _ of [1, 2]) await cacheOf().fetch(remote('m'), never);
    expect(server.sent).toBe(10);
  });

  it('is not asked for when its hash says that it is there', async () => {
    const body = bytes(10);
    server.serve('m', body);
    for (const _ of [1, 2]) await cacheOf().fetch(remote('m', { sha256: sha256(body).toUpperCase() }), never);
    expect(server.requests).toHaveLength(1);
  });

  it('is the same file as another with the same contents', async () => {
    server.serve('m', bytes(10));
    server.serve('n', bytes(10));
    const cache = cacheOf();
    expect(await cache.fetch(remote('m'), never)).toBe(await cache.fetch(remote('n'), never));
  });

  it('is undefined where there is none', async () => {
    expect(await cacheOf().fetch(remote('none'), never)).toBeUndefined();
    server.serve('gone', bytes(1), { status: 410 });
    expect(await cacheOf().fetch(remote('gone'), never)).toBeUndefined();
  });

  it.each([
    [500, true],
    [503, true],
    [429, true],
    [403, false],
    [400, false],
  ])('fails with the answer %i', async (status, isRetryable) => {
    server.serve('m', bytes(1), { status });
    expect(await outcome(cacheOf().fetch(remote('m'), never))).toBe(
      `MODEL_LOAD_FAILED ${isRetryable}: ${server.url('m')}: the server answered ${status}`,
    );
  });

  it('goes on where it was cut off', async () => {
    const body = bytes(1_000_000);
    server.serve('m', body, { cutAfter: 300_000, cuts: 3 });
    expect(await contents(cacheOf().fetch(remote('m'), never))).toEqual(body);
    const rests = [300_000, 600_000, 900_000].map((start) => `GET /m bytes=${start}-`);
    expect(server.requests).toEqual(['GET /m', ...rests]);
    expect(server.sent).toBe(1_000_000);
  });

  it('goes on in another process, where one was cut off too often', async () => {
    const body = bytes(1_000_000);
    const file = server.serve('m', body, { cutAfter: 100_000, cuts: 9 });
    expect(await outcome(cacheOf().fetch(remote('m'), never))).toContain('MODEL_LOAD_FAILED true');
    file.cuts = 0;
    expect(await contents(cacheOf().fetch(remote('m'), never))).toEqual(body);
    expect(server.sent).toBe(1_000_000);
  });

  it.each([
    ['begins again where the server sends all of it', { ignoresRange: true }],
    ['begins again where there is nothing to tell whether it is the same', { etag: undefined }],
    ['begins again where the server promises no more than much the same', { etag: 'W/"weak"' }],
  ])('%s', async (_, how) => {
    const body = bytes(1_000_000);
    server.serve('m', body, { cutAfter: 300_000, cuts: 1, ...how });
    expect(await contents(cacheOf().fetch(remote('m'), never))).toEqual(body);
  });

  it.each([false, true])(
    'begins again where it changes in the middle; the server minds If-Range: %s',
    async (minds) => {
      const file = server.serve('m', bytes(1_000_000), { cutAfter: 300_000, cuts: 1, ignoresIfRange: !minds });
      let asked = 0;
      file.asked = () => {
        asked += 1;
        if (asked !== 2) return;
        file.body = bytes(900_000, 7);
        file.etag = '"another"';
      };
      expect(await contents(cacheOf().fetch(remote('m'), never))).toEqual(bytes(900_000, 7));
    },
  );

  it.each([
    ['a length that is none', { saysLength: 2_000 }, {}, 'it was cut off'],
    ['another size', {}, { bytes: 999 }, 'it has 1000 bytes; expected 999'],
    [
      'another size that it does not say',
      { isChunked: true },
      { bytes: 999 },
      'it has at least 1000 bytes; expected 999',
    ],
    ['fewer bytes than said', { isChunked: true }, { bytes: 1_001 }, 'it has 1000 bytes; expected 1001'],
    [
      'another hash',
      {},
      { sha256: 'a'.repeat(64) },
      `it has SHA-256 ${sha256(bytes(1_000))}; expected ${'a'.repeat(64)}`,
    ],
  ])('fails with %s, and nothing of it stays', async (_, how, expected, message) => {
    const file = server.serve('m', bytes(1_000), { ...how, cuts: 0 });
    if ('saysLength' in how) Object.assign(file, { cutAfter: 1_000, cuts: 99 });
    expect(await outcome(cacheOf().fetch(remote('m', expected), never))).toContain(message);
    expect(readdirSync(folder).filter((name) => /^[\da-f]{64}$/.test(name) || name.endsWith('.json'))).toEqual([]);
  });

  it.each([{}, { isChunked: true }])('is refused when it is too large: %o', async (how) => {
    const piece = { pieceBytes: 1_000, ...how };
    server.serve('m', bytes(100_000), piece);
    const message = 'maxModelBytes allows 5000';
    expect(await outcome(cacheOf({ maxModelBytes: 5_000 }).fetch(remote('m'), never))).toContain(message);
    expect(received).toBeLessThan(100_000);
  });

  it('may come slowly, but not with a pause of half a minute', async () => {
    // A hundredth of the time.
    const clock = { ...systemClock, schedule: (act: () => void, ms: number) => systemClock.schedule(act, ms / 100) };
    server.serve('slow', bytes(1_000), { delayMs: 50, pieceBytes: 50, pieceMs: 20 });
    expect(await contents(cacheOf({ clock }).fetch(remote('slow'), never))).toEqual(bytes(1_000));
    server.serve('silent', bytes(1_000), { isSilent: true });
    server.serve('stuck', bytes(1_000), { pieceBytes: 999, pieceMs: 1e9 });
    for (const path of ['silent', 'stuck']) {
      const message = 'MODEL_LOAD_FAILED true: nothing came for 30000 ms';
      expect(await outcome(cacheOf({ clock }).fetch(remote(path), never))).toContain(
        path === 'silent' ? message : 'nothing came',
      );
    }
  });

  it('is given up when it is not wanted any more', async () => {
    server.serve('m', bytes(1_000), { pieceBytes: 10, pieceMs: 5 });
    const controller = new AbortController();
    const fetched = outcome(cacheOf().fetch(remote('m'), controller.signal));
    while (received === 0) await new Promise(setImmediate);
    controller.abort(new InfermuxError('CANCELLED', 'enough'));
    expect(await fetched).toContain('CANCELLED');
    expect(received).toBeLessThan(1_000);
  });

  it('is followed through redirects, but not for ever, nor with its secrets to another server', async () => {
    server.serve('m', bytes(10));
    server.serve('a', bytes(1), { status: 302, location: '/b' });
    server.serve('b', bytes(1), { status: 307, location: server.url('m').href });
    expect(await contents(cacheOf().fetch(remote('a', { headers: { authorization: 'secret' } }), never))).toEqual(
      bytes(10),
    );
    expect(server.headers.map(({ authorization }) => authorization)).toEqual(['secret', 'secret', 'secret']);
    server.serve('loop', bytes(1), { status: 302, location: '/loop' });
    expect(await outcome(cacheOf().fetch(remote('loop'), never))).toContain('it is redirected more than 5 times');
    const other = await ModelServer.start();
    other.serve('m', bytes(10));
    server.serve('away', bytes(1), { status: 302, location: other.url('m').href });
    await cacheOf().fetch(remote('away', { headers: { authorization: 'secret' } }), never);
    expect(other.headers[0]?.authorization).toBeUndefined();
    await other.close();
  });

  it('is fetched by https, unless it is said that anybody may change it', async () => {
    server.serve('m', bytes(10));
    const message = 'models are fetched by https: allowHttp: true allows it';
    expect(await outcome(cacheOf().fetch(remote('m', { allowHttp: false }), never))).toContain(message);
    expect(server.requests).toEqual([]);
    const file = { ...remote('m').file, url: new URL('ftp://127.0.0.1/m') };
    expect(await outcome(cacheOf().fetch(remote('m', { file }), never))).toContain('models are fetched by https');
  });

  it('has no secret in its messages: neither of its query, nor of its headers, nor of a redirect', async () => {
    server.serve('refused', bytes(1), { status: 403 });
    server.serve('away', bytes(1), { status: 302, location: 'http://name:secret@127.0.0.1/' });
    const { file } = remote('refused');
    const signed = (sign: RemoteFile['sign']) => remote('x', { file: { ...file, sign } });
    const asked = [
      remote('refused', { file: { ...file, url: new URL('?key=secret', file.url) } }),
      remote('away', { headers: { authorization: 'secret' } }),
      signed(() => ({ url: 'no url with a secret' })),
      signed(() => ({ url: file.url, headers: { 'no name': 'secret' } })),
      remote('gone', { file: { ...file, url: new URL('http://127.0.0.1:1/m?key=secret') } }),
    ];
    for (const model of asked) {
      const message = String(await outcome(cacheOf().fetch(model, never)));
      expect(message).toContain('MODEL_LOAD_FAILED');
      expect(message).not.toContain('secret');
    }
  });

  it('fails where nobody answers', async () => {
    const { file } = remote('m');
    await server.close();
    expect(await outcome(cacheOf().fetch(remote('m', { file }), never))).toContain('MODEL_LOAD_FAILED true');
    server = await ModelServer.start();
  });

  it('may be signed anew for each request', async () => {
    server.serve('m', bytes(100), { cutAfter: 40, cuts: 1 });
    let signs = 0;
    const sign = ({ url, headers }: { url: string; headers: Readonly<Record<string, string>> }) => {
      signs += 1;
      return { url: `${url}?signature=${signs}`, headers: { ...headers, 'x-signed': String(signs) } };
    };
    const { file } = remote('m');
    expect(await contents(cacheOf().fetch(remote('m', { file: { ...file, sign } }), never))).toEqual(bytes(100));
    expect(server.headers.map((headers) => headers['x-signed'])).toEqual(['1', '2']);
    const broken = () => Promise.reject(new Error('no key'));
    expect(await outcome(cacheOf().fetch(remote('m', { file: { ...file, sign: broken } }), never))).toContain(
      'the request could not be signed: no key',
    );
  });

  it('brings its external data along, and only what has changed of both', async () => {
    const { model, weights } = externalModel('weights.bin');
    server.serve('big/model.onnx', model);
    server.serve('big/weights.bin', weights);
    const first = (await cacheOf().fetch(remote('big/model.onnx'), never)) as string;
    expect(new Uint8Array(readFileSync(join(dirname(first), 'weights.bin')))).toEqual(new Uint8Array(weights));
    const { ctimeNs } = statSync(first, { bigint: true });
    const other = new Uint8Array(weights);
    other[0] = 1 + (other[0] as number);
    const { sent } = server;
    server.serve('big/weights.bin', other);
    const second = (await cacheOf().fetch(remote('big/model.onnx'), never)) as string;
    expect(server.sent - sent).toBe(other.length);
    expect(new Uint8Array(readFileSync(join(dirname(second), 'weights.bin')))).toEqual(other);
    expect(readFileSync(second).equals(model)).toBe(true);
    // The files that sessions may be loaded from are as they were.
    expect(statSync(first, { bigint: true }).ctimeNs).toBe(ctimeNs);
    server.files.delete('/big/weights.bin');
    expect(await outcome(cacheOf().fetch(remote('big/model.onnx'), never))).toContain('it is not there');
  });

  it('never comes with the external data of another: what changes meanwhile is fetched anew', async () => {
    const { model, weights } = externalModel('weights.bin');
    const other = new Uint8Array(weights);
    other[0] = 1 + (other[0] as number);
    server.serve('big/model.onnx', model, { etag: '"first"' });
    const beside = server.serve('big/weights.bin', weights);
    beside.asked = () => {
      beside.asked = () => undefined;
      server.serve('big/model.onnx', model, { etag: '"second"' });
      Object.assign(beside, { body: other, etag: '"other"' });
    };
    const path = (await cacheOf().fetch(remote('big/model.onnx'), never)) as string;
    expect(new Uint8Array(readFileSync(join(dirname(path), 'weights.bin')))).toEqual(other);
    expect(server.count('big/model.onnx')).toBe(4);
  });

  it('goes on with external data where another process was cut off in it', async () => {
    const { model, weights } = externalModel('weights.bin');
    const large = Uint8Array.from({ length: 1_000_000 }, (_, index) => weights[index % weights.length] as number);
    server.serve('big/model.onnx', model);
    const beside = server.serve('big/weights.bin', large, { cutAfter: 100_000, cuts: 9 });
    expect(await outcome(cacheOf().fetch(remote('big/model.onnx'), never))).toContain('MODEL_LOAD_FAILED true');
    beside.cuts = 0;
    const path = (await cacheOf().fetch(remote('big/model.onnx'), never)) as string;
    expect(new Uint8Array(readFileSync(join(dirname(path), 'weights.bin')))).toEqual(large);
    expect(server.sent).toBe(model.length + large.length);
    expect(readdirSync(dirname(path)).sort()).toEqual(['model.onnx', 'weights.bin']);
  });

  it('is downloaded once for many who want it at the same time', async () => {
    server.serve('m', bytes(10_000), { pieceBytes: 1_000, pieceMs: 2, etag: undefined });
    const fetched = Array.from({ length: 8 }, () => cacheOf().fetch(remote('m'), never));
    expect(new Set(await Promise.all(fetched)).size).toBe(1);
    expect(server.sent).toBe(10_000);
  });

  it.each<[string, (path: string) => void]>([
    ['cut short', (path) => truncateSync(path, 10)],
    ['removed', (path) => rmSync(path)],
    ['lost with the power, but for its size', (path) => writeFileSync(path, new Uint8Array(1_000))],
  ])('is downloaded again when its file was %s', async (_, harm) => {
    server.serve('m', bytes(1_000));
    const known = { sha256: sha256(bytes(1_000)) };
    for (const more of [{}, known]) {
      harm((await cacheOf().fetch(remote('m', more), never)) as string);
      expect(await contents(cacheOf().fetch(remote('m', more), never))).toEqual(bytes(1_000));
    }
    expect(server.sent).toBe(3_000);
  });
});

describe('a stream', () => {
  const streamed = (pieces: AsyncIterable<Uint8Array>, more: object = {}) => ({
    ...{ name: 'm', fileName: 'model.onnx', bytes: undefined, sha256: undefined, pieces },
    ...more,
  });
  async function* pieces(count: number, failAt = -1): AsyncGenerator<Uint8Array> {
    for (let index = 0; index < count; index += 1) {
      if (index === failAt) throw new Error('torn');
      yield bytes(100, index + 1);
    }
  }

  it('is written to the disk', async () => {
    const path = await cacheOf().keep(streamed(pieces(3)), never);
    expect(readFileSync(path)).toEqual(Buffer.concat([1, 2, 3].map((seed) => bytes(100, seed))));
  });

  it('cannot bring what its model needs beside it', async () => {
    const { model } = externalModel('weights.bin');
    const stream = (async function* () {
      yield model;
    })();
    expect(await outcome(cacheOf().keep(streamed(stream), never))).toContain('needs "weights.bin" beside it');
    expect(readdirSync(folder).filter((name) => /^[\da-f]{64}$/.test(name))).toEqual([]);
  });

  it.each([
    [pieces(3, 2), {}, 'the stream of model "m" failed: torn'],
    [pieces(3), { bytes: 301 }, 'has 300 bytes; expected 301'],
    [pieces(30), { bytes: 200 }, 'has more than 200 bytes'],
    [pieces(3), { sha256: 'b'.repeat(64) }, `expected ${'b'.repeat(64)}`],
    [
      (async function* () {
        yield 'text' as unknown as Uint8Array;
      })(),
      {},
      'it gave "text" instead of bytes',
    ],
  ])('leaves nothing when it is not what was said: %#', async (stream, more, message) => {
    expect(await outcome(cacheOf().keep(streamed(stream, more), never))).toContain(message);
    expect(readdirSync(folder).filter((name) => /^[\da-f]{64}$/.test(name))).toEqual([]);
  });
});

describe('the cache', () => {
  it('keeps to its bound: the one unused for longest leaves, but none in use', async () => {
    const cache = cacheOf({ maxBytes: 3_000 });
    const folders: string[] = [];
    for (const seed of [1, 2, 3, 4, 5]) {
      server.serve(`m${seed}`, bytes(1_000, seed));
      const path = (await cache.fetch(remote(`m${seed}`), never)) as string;
      cache.settle(path);
      folders.push(dirname(path));
      if (seed === 1) inUse.add(folders[0] as string);
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (seed === 3) await cache.used(join(folders[1] as string, 'model.onnx'));
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(folders.map((each) => existsSync(each))).toEqual([true, false, false, true, true]);
    expect(left).toEqual([folders[2], folders[1]]);
  });

  it('keeps what was found until it is used, whatever else comes', async () => {
    const cache = cacheOf({ maxBytes: 1_000 });
    const paths: string[] = [];
    for (const seed of [1, 2, 3]) {
      server.serve(`m${seed}`, bytes(1_000, seed));
      paths.push((await cache.fetch(remote(`m${seed}`), never)) as string);
    }
    expect(paths.every((path) => existsSync(path))).toBe(true);
    for (const path of paths) cache.settle(path);
    server.serve('m4', bytes(1_000, 4));
    await cache.fetch(remote('m4'), never);
    expect(paths.some((path) => existsSync(path))).toBe(false);
  });

  it('keeps what was found under another name, when it is to be removed under the first', async () => {
    const cache = cacheOf();
    for (const name of ['m1', 'm2']) server.serve(name, bytes(1_000));
    const path = (await cache.fetch(remote('m1'), never)) as string;
    cache.settle(path);
    expect(await cache.fetch(remote('m2'), never)).toBe(path);
    await cache.remove(dirname(path));
    expect(existsSync(path)).toBe(true);
    cache.settle(path);
    await cache.remove(dirname(path));
    expect(existsSync(path)).toBe(false);
  });

  it('keeps what is asked about, whatever comes while the server thinks', async () => {
    const cache = cacheOf({ maxBytes: 1_000 });
    const file = server.serve('m1', bytes(1_000, 1));
    const path = (await cache.fetch(remote('m1'), never)) as string;
    cache.settle(path);
    server.serve('m2', bytes(1_000, 2));
    const asked = new Promise<void>((resolve) => Object.assign(file, { asked: resolve, delayMs: 100 }));
    const again = cache.fetch(remote('m1'), never);
    await asked;
    cache.settle((await cache.fetch(remote('m2'), never)) as string);
    expect(await again).toBe(path);
    expect(existsSync(path)).toBe(true);
  });

  it('keeps nothing for what could not be written down', async () => {
    const cache = cacheOf();
    const asked = () => void mkdirSync(join(folder, `${nameKey('m')}.json`));
    server.serve('m', bytes(1_000), { asked });
    expect(await outcome(cache.fetch(remote('m'), never))).toContain('FAILED_PRECONDITION');
    const entries = () => readdirSync(folder).filter((name) => ENTRY.test(name));
    expect(entries()).toHaveLength(1);
    await cache.remove(join(folder, entries()[0] as string));
    expect(entries()).toEqual([]);
  });

  it('has a directory again when that was removed', async () => {
    const cache = cacheOf();
    server.serve('m', bytes(1_000));
    cache.settle((await cache.fetch(remote('m'), never)) as string);
    rmSync(folder, { recursive: true });
    expect(await contents(cache.fetch(remote('m'), never))).toEqual(bytes(1_000));
  });

  it('is refused where anybody may write, and says what to do', async () => {
    const { chmodSync } = await import('node:fs');
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o777);
    server.serve('m', bytes(1));
    expect(await outcome(cacheOf().fetch(remote('m'), never))).toMatch(
      /FAILED_PRECONDITION.*may be written by everybody/,
    );
  });

  it('says when it cannot be written', async () => {
    writeFileSync(folder, 'a file');
    folder = join(folder, 'cache');
    expect(await outcome(cacheOf().fetch(remote('m'), never))).toContain('FAILED_PRECONDITION');
  });

  it('has real models that load', async () => {
    server.serve('times-2.onnx', scaleModel(2));
    expect(await contents(cacheOf().fetch(remote('times-2.onnx'), never))).toEqual(new Uint8Array(scaleModel(2)));
  });
});
