import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib';
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../dist/client/index.js';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { encodeRequest } from '../../dist/open-inference/grpc/infer-codec.js';
import { createServer, type InferenceServer, type ServerOptions } from '../../dist/server/index.js';
import { type Certificates, makeCertificates } from '../support/certificates.js';
import { codeOf } from '../support/code-of.js';
import { directory } from '../support/directories.js';
import { SERVING_HANDLER, scaleRequest, servedModels } from '../support/engines/served-engine.js';

let engine: InferenceEngine;
let server: InferenceServer | undefined;

beforeAll(async () => {
  engine = await createEngine({
    models: servedModels(),
    replicas: 2,
    deployments: { handler: { handler: SERVING_HANDLER, replicas: 1, maxOngoingRequests: 64 } },
  });
});
afterEach(async () => {
  await server?.close({ graceMs: 1_000 });
  server = undefined;
});
afterAll(() => engine.close());

async function start(options: ServerOptions = {}) {
  server = await createServer(engine, { http: { port: 0 }, grpc: { port: 0 }, ...options });
  return { url: `http://127.0.0.1:${server.http?.port}`, grpc: `grpc://127.0.0.1:${server.grpc?.port}` };
}

const row = { x: { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } };
const infer = (url: string, body: object = scaleRequest(1, 2, 3, 4), headers: Record<string, string> = {}) =>
  fetch(`${url}/v2/models/times-2/infer`, { method: 'POST', body: JSON.stringify(body), headers });

describe('options', () => {
  it.each([
    [{ port: 1 }, 'server: unknown key "port"'],
    [{ http: false, grpc: false }, 'http and grpc must not both be false'],
    [{ http: { port: 70_000 } }, 'server.http.port must be an integer from 0 to 65535'],
    [{ http: 8000 }, 'server.http must be true, false or { host, port }'],
    [{ host: '' }, 'server.host must be a non-empty string'],
    [{ auth: { keys: [] } }, 'server.auth.keys must be a list of keys'],
    [{ auth: { keys: ['short'] } }, 'server.auth.keys must be a list of keys'],
    [{ auth: { keys: { file: '/nowhere/keys' } } }, 'the key file /nowhere/keys cannot be read: ENOENT'],
    [{ cors: ['example.com'] }, 'server.cors must be a list of origins'],
    [{ limits: { body: 1 } }, 'server.limits: unknown key "body"'],
    [{ limits: { bodyBytes: 0 } }, 'server.limits.bodyBytes must be'],
    [{ nonFinite: 'nan' }, 'server.nonFinite must be one of'],
    [{ tls: { key: 'x' } }, 'server.tls.cert must be a non-empty string'],
    [{ logger: {} }, 'server.logger must be a logger'],
    [{ drainDelayMs: -1 }, 'server.drainDelayMs must be milliseconds'],
  ])('are checked: %j', async (options, message) => {
    const error = await createServer(engine, options as never).catch((cause) => cause);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) });
  });

  it('say which address is taken, and leave nothing open', async () => {
    const { url } = await start();
    const port = Number(new URL(url).port);
    const failed = createServer(engine, { grpc: { port: 0 }, http: { port } });
    await expect(failed).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(`HTTP on 127.0.0.1:${port}: another program listens there`),
    });
    const grpcPort = server?.grpc?.port as number;
    const other = createServer(engine, { http: { port: 0 }, grpc: { port: grpcPort } });
    await expect(other).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(`gRPC on 127.0.0.1:${grpcPort}: another program listens there`),
    });
  });

  it('may leave one of the protocols out', async () => {
    await start({ grpc: false });
    expect(server?.grpc).toBeUndefined();
    await server?.close();
    await start({ http: false });
    expect(server?.http).toBeUndefined();
  });
});

describe('keys', () => {
  it('are asked for, in both protocols, but not by probes of health', async () => {
    const { url, grpc } = await start({ auth: { keys: ['key-one-1', 'key-two-2'] } });
    expect((await fetch(`${url}/v2/health/ready`)).status).toBe(200);
    const without = await infer(url);
    expect(without.status).toBe(401);
    expect(without.headers.get('www-authenticate')).toBe('Bearer');
    expect(await without.json()).toMatchObject({ error: expect.stringContaining('a key is needed') });
    for (const headers of [{ authorization: 'Bearer key-one-1' }, { 'x-api-key': 'key-two-2' }]) {
      expect((await infer(url, undefined, headers)).status).toBe(200);
    }
    for (const headers of [
      { authorization: 'Bearer key-one-2' },
      { authorization: 'key-one-1' },
      { 'x-api-key': 'k' },
    ]) {
      expect((await infer(url, undefined, headers)).status).toBe(401);
    }
    expect((await fetch(`${url}/metrics`)).status).toBe(401);
    for (const address of [url, grpc]) {
      const good = await connect(address, { apiKey: 'key-one-1' });
      expect((await good.run('times-2', row)).y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
      const bad = await connect(address, { apiKey: 'key-three' });
      expect(await codeOf(bad.run('times-2', row))).toBe('FAILED_PRECONDITION');
      expect(await bad.ready()).toBe(true);
      await good.close();
      await bad.close();
    }
    const bytes = (message: Buffer) => message;
    const client = new Client(grpc.slice('grpc://'.length), credentials.createInsecure());
    for (const version of ['v1', 'v1alpha']) {
      const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
      const stream = client.makeBidiStreamRequest(path, bytes, bytes).on('data', () => undefined);
      // UNAUTHENTICATED
      expect(await new Promise((resolve) => stream.on('error', resolve))).toMatchObject({ code: 16 });
    }
    client.close();
  });

  it('may be others for the admin part', async () => {
    const { url } = await start({ auth: { keys: ['user-key'], adminKeys: ['admin-key'] } });
    const load = (key: string) =>
      fetch(`${url}/v2/repository/models/times-3/load`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
      });
    expect((await load('user-key')).status).toBe(403);
    expect((await load('other-key')).status).toBe(401);
    expect((await load('admin-key')).status).toBe(200);
    expect((await infer(url, undefined, { authorization: 'Bearer admin-key' })).status).toBe(200);
  });

  it('are read from their file again when it changes', async () => {
    const file = join(directory({ keys: '# keys\nfirst-key\n\n' }), 'keys');
    const { url } = await start({ auth: { keys: { file } } });
    const status = async (key: string) => (await infer(url, undefined, { 'x-api-key': key })).status;
    expect(await status('first-key')).toBe(200);
    writeFileSync(file, 'second-key\n');
    await expect.poll(() => status('second-key'), { timeout: 10_000, interval: 200 }).toBe(200);
    expect(await status('first-key')).toBe(401);
  });
});

describe('the admin part', () => {
  it('is for this machine alone where nobody asked for it: a proxy on it must not open it to others', async () => {
    const forwarded = { 'x-forwarded-for': '203.0.113.7' };
    const loads = async (options: ServerOptions, headers: Record<string, string>) => {
      const { url, grpc } = await start(options);
      const rest = await fetch(`${url}/v2/repository/models/times-3/load`, { method: 'POST', headers });
      const metadata = new Metadata();
      for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
      const client = new Client(grpc.slice('grpc://'.length), credentials.createInsecure());
      const bytes = (message: Buffer) => message;
      const path = '/inference.GRPCInferenceService/RepositoryIndex';
      const code = await new Promise((resolve) =>
        client.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), metadata, (error) => resolve(error?.code ?? 0)),
      );
      client.close();
      await server?.close();
      return [rest.status, code];
    };
    const denied = status.PERMISSION_DENIED;
    expect(await loads({}, forwarded)).toStrictEqual([403, denied]);
    expect(await loads({}, {})).toStrictEqual([200, 0]);
    expect(await loads({ admin: true }, forwarded)).toStrictEqual([200, 0]);
    const key = { 'x-api-key': 'a-key-of-some-length' };
    expect(await loads({ auth: { keys: [key['x-api-key']] } }, { ...forwarded, ...key })).toStrictEqual([200, 0]);
  });

  const load = (url: string) => fetch(`${url}/v2/repository/models/times-3/load`, { method: 'POST' });

  it('can be switched off, in both protocols', async () => {
    const { url, grpc } = await start({ admin: false });
    expect((await load(url)).status).toBe(404);
    expect(await (await fetch(`${url}/openapi.json`)).text()).not.toContain('/v2/repository');
    for (const address of [url, grpc]) {
      const client = await connect(address);
      expect(await codeOf(client.models.load('times-3'))).not.toBe('answered');
      await client.close();
    }
    const client = await connect(url);
    expect(await client.models.list()).toContainEqual({
      id: 'times-3',
      version: undefined,
      isReady: undefined,
      problem: undefined,
    });
    await client.close();
  });

  it('is off by itself when others can reach the server, unless there are keys', async () => {
    const { url } = await start({ host: '0.0.0.0' });
    expect((await load(url)).status).toBe(404);
    await server?.close();
    const { url: keyed } = await start({ host: '0.0.0.0', auth: { keys: ['some-key'] } });
    expect((await load(keyed)).status).toBe(401);
  });

  it('may have an address of its own', async () => {
    const { url, grpc } = await start({ admin: { port: 0 } });
    expect((await load(url)).status).toBe(404);
    const admin = `http://127.0.0.1:${server?.admin?.port}`;
    expect((await load(admin)).status).toBe(200);
    expect((await infer(admin)).status).toBe(404);
    expect((await fetch(`${admin}/v2/health/live`)).status).toBe(200);
    const client = await connect(grpc);
    expect(await codeOf(client.models.load('times-3'))).toBe('FAILED_PRECONDITION');
    await client.close();
  });
});

describe('pages of other sites', () => {
  it('may not ask', async () => {
    const { url } = await start();
    const refused = await infer(url, undefined, { origin: 'https://evil.example' });
    expect(refused.status).toBe(403);
    expect(refused.headers.get('access-control-allow-origin')).toBe(null);
    expect((await infer(url, undefined, { origin: url })).status).toBe(200);
  });

  it('are not the pages of the server itself, by any name, if they send a key', async () => {
    const { url } = await start({ auth: { keys: ['a-long-key'] } });
    const { port } = new URL(url);
    const ask = (host: string, origin: string, key: string) =>
      new Promise((resolve, reject) => {
        const headers = { host, origin, 'x-api-key': key };
        request(`${url}/v2/repository/index`, { method: 'POST', headers }, (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        })
          .once('error', reject)
          .end('{}');
      });
    expect(await ask(`node.example:${port}`, `http://node.example:${port}`, 'a-long-key')).toBe(200);
    expect(await ask(`node.example:${port}`, `http://node.example:${port}`, 'another-key')).toBe(401);
    expect(await ask(`node.example:${port}`, 'http://evil.example', 'a-long-key')).toBe(403);
  });

  it('may ask when they are named, and read what they need', async () => {
    const { url } = await start({ cors: ['https://app.example'] });
    const answer = await infer(url, undefined, { origin: 'https://app.example' });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(answer.headers.get('access-control-expose-headers')?.toLowerCase()).toContain(
      'inference-header-content-length',
    );
    const headers = {
      origin: 'https://app.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'inference-header-content-length',
    };
    const asked = await fetch(`${url}/v2/models/times-2/infer`, { method: 'OPTIONS', headers });
    expect(asked.status).toBe(204);
    expect(asked.headers.get('access-control-allow-headers')?.toLowerCase()).toContain(
      'inference-header-content-length',
    );
    expect((await infer(url, undefined, { origin: 'https://evil.example' })).status).toBe(403);
    const binary = await fetch(`${url}/v2/models/times-2/infer`, {
      method: 'POST',
      headers: { origin: 'https://app.example' },
      body: JSON.stringify({ ...scaleRequest(1, 2, 3, 4), parameters: { binary_data_output: true } }),
    });
    expect(binary.headers.get('access-control-allow-origin')).toBe('https://app.example');
    expect(binary.headers.get('inference-header-content-length')).toMatch(/^\d+$/);
  });
});

describe('compression', () => {
  it('is undone in requests', async () => {
    const { url } = await start();
    const body = Buffer.from(JSON.stringify(scaleRequest(1, 2, 3, 4)));
    for (const [encoding, compress] of [
      ['gzip', gzipSync],
      ['deflate', deflateSync],
      ['GZIP', gzipSync],
      ['identity', (bytes: Buffer) => bytes],
    ] as const) {
      const answer = await fetch(`${url}/v2/models/times-2/infer`, {
        method: 'POST',
        body: compress(body),
        headers: { 'content-encoding': encoding },
      });
      expect(await answer.json(), encoding).toMatchObject({ outputs: [{ data: [2, 4, 6, 8] }] });
    }
    const json = Buffer.from(
      JSON.stringify({
        inputs: [{ name: 'x', shape: [1, 4], datatype: 'FP32', parameters: { binary_data_size: 16 } }],
      }),
    );
    const binary = gzipSync(Buffer.concat([json, Buffer.from(Float32Array.of(1, 2, 3, 4).buffer)]));
    const answer = await fetch(`${url}/v2/models/times-2/infer`, {
      method: 'POST',
      body: binary,
      headers: { 'content-encoding': 'gzip', 'inference-header-content-length': String(json.length) },
    });
    expect(await answer.json()).toMatchObject({ outputs: [{ data: [2, 4, 6, 8] }] });
  });

  it('is done in answers that are worth it, as the client accepts', async () => {
    const { url } = await start({ grpc: false });
    const data = Array.from({ length: 4_096 }, (_, index) => index % 10);
    const body = JSON.stringify({
      inputs: [{ name: 'x', shape: [1, 4_096], datatype: 'FP32', data }],
      parameters: { binary_data_output: true },
    });
    const bytesOf = async (accepted: string) => {
      const args = ['-s', '-i', '-H', `accept-encoding: ${accepted}`, '-d', body, `${url}/v2/models/wide/infer`];
      // Not in this thread, which answers.
      const { stdout } = await promisify(execFile)('curl', args, { encoding: 'buffer' });
      const end = stdout.indexOf('\r\n\r\n');
      const head = stdout.subarray(0, end).toString();
      return {
        encoding: /^content-encoding: (\w+)/im.exec(head)?.[1],
        length: Number(/^inference-header-content-length: (\d+)/im.exec(head)?.[1]),
        answer: stdout.subarray(end + 4),
      };
    };
    const expected = Buffer.from(Float32Array.from(data, (value) => value * 2).buffer);
    const gzipped = await bytesOf('br, gzip;q=0.5');
    expect(gzipped.encoding).toBe('gzip');
    expect(gunzipSync(gzipped.answer).subarray(gzipped.length)).toStrictEqual(expected);
    const deflated = await bytesOf('deflate, gzip;q=0');
    expect(deflated.encoding).toBe('deflate');
    expect(inflateSync(deflated.answer).subarray(deflated.length)).toStrictEqual(expected);
    expect((await bytesOf('br')).encoding).toBeUndefined();
  });
});

describe('numbers that JSON does not have', () => {
  it.each([
    ['literal', 200, '[NaN,Infinity,-Infinity,-0.0]'],
    ['null', 200, '[null,null,null,-0.0]'],
    ['error', 400, 'ask for it with binary_data'],
  ])('are written as the option says: %s', async (nonFinite, status, text) => {
    const { url } = await start({ grpc: false, nonFinite: nonFinite as 'null' });
    const body = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,Infinity,-Infinity,-0.0]}]}';
    const answer = await fetch(`${url}/v2/models/times-2/infer`, { method: 'POST', body });
    expect(answer.status).toBe(status);
    expect(await answer.text()).toContain(text);
  });
});

describe('TLS', () => {
  let certificates: Certificates;
  beforeAll(() => {
    certificates = makeCertificates(['server', 'client']);
  });

  it('secures both protocols, and asks clients for certificates', async () => {
    const { pem } = certificates;
    const tls = { key: pem('server.key'), cert: pem('server.crt'), ca: pem('ca.crt') };
    await start({ tls });
    const own = { ca: pem('ca.crt'), key: pem('client.key'), cert: pem('client.crt') };
    for (const address of [`https://localhost:${server?.http?.port}`, `grpcs://localhost:${server?.grpc?.port}`]) {
      const client = await connect(address, { tls: own });
      expect((await client.run('times-2', row)).y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
      await client.close();
      const stranger = await connect(address, { tls: { ca: own.ca }, retries: 0 });
      expect(await codeOf(stranger.run('times-2', row))).toBe('REPLICA_FAILED');
      await stranger.close();
    }
    const code = await new Promise((resolve) => {
      httpsRequest({ host: 'localhost', port: server?.http?.port, path: '/v2/health/live', ca: own.ca }, () =>
        resolve('answered'),
      )
        .on('error', () => resolve('refused'))
        .end();
    });
    expect(code).toBe('refused');
  });
});

describe('logs', () => {
  it('have one line for each request, with its name, when that is asked for', async () => {
    const lines: { fields: object; message: string }[] = [];
    const write = (fields: object, message: string) => lines.push({ fields, message });
    const logger = { debug: write, info: write, warn: write, error: write };
    const { url, grpc } = await start({ logger, logRequests: true });
    await infer(url, undefined, { 'x-request-id': 'named' });
    const unnamed = await infer(url);
    const client = await connect(grpc);
    await client.run('times-2', row, { requestId: 'called' });
    await client.close();
    await expect
      .poll(() => lines.filter(({ message }) => message === 'request'))
      .toMatchObject([
        {
          fields: {
            protocol: 'http',
            requestId: 'named',
            method: 'POST',
            path: '/v2/models/times-2/infer',
            status: 200,
            ms: expect.any(Number),
          },
        },
        { fields: { requestId: unnamed.headers.get('x-request-id') } },
        { fields: { protocol: 'grpc', requestId: 'called', method: 'ModelInfer', status: 0 } },
      ]);
  });

  it('change their level by the protocol', async () => {
    const nothing = () => undefined;
    const logger = { debug: nothing, info: nothing, warn: nothing, error: nothing, level: 'warn' };
    const { url } = await start({ logger });
    const settings = async (body?: object) =>
      (
        await fetch(`${url}/v2/logging`, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) })
      ).json();
    expect(await settings()).toMatchObject({
      log_info: false,
      log_warning: true,
      log_error: true,
      log_verbose_level: 0,
    });
    expect(await settings({ log_verbose_level: 1 })).toMatchObject({ log_info: true, log_verbose_level: 1 });
    expect(logger.level).toBe('debug');
    expect(await settings({ log_verbose_level: 0, log_info: false, log_warning: false })).toMatchObject({
      log_info: false,
      log_warning: false,
      log_error: true,
    });
    expect(logger.level).toBe('error');
    expect(await settings({ log_info: 'yes' })).toMatchObject({ error: 'log_info must be true or false' });
  });
});

describe('the document about the paths', () => {
  it('names every path and method that answers, and no other', async () => {
    const { url } = await start();
    const { openapi, paths, components } = (await (await fetch(`${url}/openapi.json`)).json()) as {
      openapi: string;
      paths: Record<string, Record<string, unknown>>;
      components: { schemas: Record<string, unknown> };
    };
    expect(openapi).toBe('3.1.0');
    expect(Object.keys(paths)).toHaveLength(27);
    for (const [path, operations] of Object.entries(paths)) {
      const asked = path.replace('{model}', 'times-2').replace('{version}', '1');
      for (const method of ['get', 'post', 'delete']) {
        const { status } = await fetch(url + asked, { method: method.toUpperCase() });
        // A path that is there refuses a body that is missing, and answers 405 to other methods.
        if (method in operations) expect([200, 400, 422], `${method} ${asked}`).toContain(status);
        else expect(status, `${method} ${asked}`).toBe(405);
      }
    }
    const refs = [...JSON.stringify({ paths, components }).matchAll(/#\/components\/schemas\/(\w+)/g)].map(
      ([, name]) => name,
    );
    expect(new Set(refs)).toStrictEqual(new Set(Object.keys(components.schemas)));
  });
});

describe('the end', () => {
  it('comes after the answers to accepted requests, in both protocols', async () => {
    const { url, grpc } = await start();
    const clients = await Promise.all([connect(url), connect(grpc)]);
    const waiting = clients.map((client) => client.run<unknown>('handler', { ms: 300 }, { method: 'wait' }));
    await expect.poll(() => engine.deployments.get('handler').ongoing).toBe(2);
    const closed = server?.close();
    expect(server?.ready).toBe(false);
    expect(await Promise.all(waiting)).toStrictEqual([{ waited: 300 }, { waited: 300 }]);
    await closed;
    for (const client of clients) expect(await client.ready()).toBe(false);
    await Promise.all(clients.map((client) => client.close()));
    // The engine goes on.
    expect((await engine.run('times-2', row)).y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
  });

  it('is told first, and requests are answered during the delay', async () => {
    const { url, grpc } = await start({ drainDelayMs: 500 });
    const client = await connect(grpc);
    expect(await client.ready()).toBe(true);
    const closed = server?.close();
    expect((await fetch(`${url}/v2/health/ready`)).status).toBe(503);
    expect((await fetch(`${url}/v2/health/live`)).status).toBe(200);
    expect((await fetch(`${url}/v2/models/times-2/ready`)).status).toBe(503);
    expect(await client.ready()).toBe(false);
    expect((await infer(url)).status).toBe(200);
    await closed;
    await client.close();
  });

  it('does not wait for streams that their clients keep open, but for what was sent on them', async () => {
    const { grpc } = await start();
    const bytes = (message: Buffer) => message;
    const client = new Client(grpc.slice('grpc://'.length), credentials.createInsecure());
    const open = (path: string) => {
      const stream = client.makeBidiStreamRequest(path, bytes, bytes);
      let answers = 0;
      stream.on('data', () => (answers += 1));
      const ended = new Promise<number | undefined>((resolve) =>
        stream.on('error', (error) => resolve((error as { code?: number }).code)),
      );
      return { stream, ended, answers: () => answers };
    };
    const infer = open('/inference.GRPCInferenceService/ModelStreamInfer');
    const reflection = open('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo');
    // list_services: "*"
    reflection.stream.write(Buffer.from([0x3a, 0x01, 0x2a]));
    await expect.poll(reflection.answers, { timeout: 10_000 }).toBe(1);
    const request = Buffer.from(JSON.stringify({ ms: 300 }));
    const input = { name: 'request', datatype: 'BYTES', shape: [1], parameters: {}, contents: undefined };
    const length = Buffer.alloc(4);
    length.writeUInt32LE(request.length);
    infer.stream.write(
      encodeRequest({
        ...{ model_name: 'handler', model_version: '', id: '', parameters: { method: 'wait' }, outputs: [] },
        inputs: [input],
        raw_input_contents: [Buffer.concat([length, request])],
      }),
    );
    await expect.poll(() => engine.deployments.get('handler').ongoing, { timeout: 10_000 }).toBe(1);
    await server?.close({ graceMs: 20_000 });
    expect(infer.answers()).toBe(1);
    expect(await Promise.all([infer.ended, reflection.ended])).toStrictEqual([14, 14]);
    client.close();
  });

  it('is not begun with a grace that is none', async () => {
    await start({ grpc: false });
    expect(await codeOf(server?.close({ graceMs: -1 }) as Promise<void>)).toBe('INVALID_ARGUMENT');
    expect(server?.ready).toBe(true);
  });

  it('does not wait for connections that never said anything', async () => {
    const { url, grpc } = await start();
    const ports = [url, grpc].map((address) => Number(new URL(address).port));
    const sockets = ports.map((port) => connectSocket(port, '127.0.0.1').resume());
    await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.on('connect', resolve))));
    const ended = sockets.map((socket) => new Promise((resolve) => socket.on('close', resolve)));
    await server?.close({ graceMs: 20_000 });
    await Promise.all(ended);
  });

  it('does not wait for longer than the grace', async () => {
    const { url } = await start({ grpc: false });
    const client = await connect(url, { retries: 0 });
    const waiting = codeOf(client.run<unknown>('handler', { ms: 60_000 }, { method: 'wait' }));
    await expect.poll(() => engine.deployments.get('handler').ongoing).toBe(1);
    await server?.close({ graceMs: 50 });
    expect(await waiting).toBe('REPLICA_FAILED');
    await expect.poll(() => engine.deployments.get('handler').ongoing, { timeout: 10_000 }).toBe(0);
    await client.close();
  });
});
