import fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { infermuxPlugin } from '../../dist/server/fastify.js';
import { createServer, type ServerOptions } from '../../dist/server/index.js';
import { type Served, startServed } from '../support/engines/served-engine.js';

let served: Served;
beforeAll(async () => {
  served = await startServed();
});
afterAll(() => served.close());

/** Resolves to what a server with these options answers. */
async function withServer<T>(options: ServerOptions, work: (address: string) => Promise<T>): Promise<T> {
  const server = await createServer(served.engine, { http: { port: 0 }, grpc: false, ...options });
  try {
    return await work(`http://127.0.0.1:${server.http?.port}`);
  } finally {
    await server.close({ graceMs: 2_000 });
  }
}

const KEY = 'a-key-that-is-long-enough';
const ADMIN = 'an-admin-key-that-is-long-enough';

describe('the console of the server', () => {
  it('is at /console', async () => {
    const page = await fetch(`${served.http}/console`);
    expect(page.url).toBe(`${served.http}/console/`);
    expect(await page.text()).toContain('<title>infermux</title>');
    expect((await fetch(`${served.http}/console/none.js`)).status).toBe(404);
    expect(await (await fetch(`${served.http}/console/api/model?model=times-2`)).json()).toMatchObject({
      id: 'times-2',
    });
  });

  it('is not there if it is not wanted', async () => {
    await withServer({ console: false }, async (http) => {
      expect((await fetch(`${http}/console`)).status).toBe(404);
      expect((await fetch(`${http}/console/api/events`)).status).toBe(404);
    });
  });

  it('needs the keys that other requests of its kind need', async () => {
    await withServer({ auth: { keys: [KEY], adminKeys: [ADMIN] } }, async (http) => {
      const statusOf = async (path: string, key?: string, init: RequestInit = {}) => {
        const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
        const response = await fetch(`${http}/console/${path}`, { ...init, headers });
        await response.body?.cancel();
        return response.status;
      };
      expect(await statusOf('app.js')).toBe(200);
      const post = { method: 'POST' };
      expect(await statusOf('api/events')).toBe(401);
      expect(await statusOf('api/events', KEY)).toBe(200);
      expect(await statusOf('api/infer', undefined, post)).toBe(401);
      expect(await statusOf('api/admin/load?model=times-2', KEY, post)).toBe(403);
      expect(await statusOf('api/admin/load?model=times-2', ADMIN, post)).toBe(200);
    });
  });

  it('changes nothing where the admin part is off, or listens elsewhere', async () => {
    for (const admin of [false, { port: 0 }]) {
      await withServer({ admin }, async (http) => {
        const response = await fetch(`${http}/console/api/admin/unload?model=times-2`, { method: 'POST' });
        expect(response.status).toBe(405);
        await response.body?.cancel();
      });
    }
  });

  it('answers HEAD like GET, without a body', async () => {
    const response = await fetch(`${served.http}/console/api/events`, { method: 'HEAD' });
    expect([response.status, response.headers.get('content-type')]).toStrictEqual([200, 'text/event-stream']);
  });

  it('does not hold up the end of the server', async () => {
    const startedAt = performance.now();
    await withServer({}, async (http) => {
      const { body } = await fetch(`${http}/console/api/events`);
      await (body as ReadableStream).getReader().read();
    });
    expect(performance.now() - startedAt).toBeLessThan(1_900);
  });

  it('refuses what is too large, and pages of other sites', async () => {
    await withServer({ limits: { bodyBytes: 100 } }, async (http) => {
      const large = await fetch(`${http}/console/api/infer`, { method: 'POST', body: 'x'.repeat(200) });
      expect(large.status).toBe(413);
      const headers = { origin: 'http://evil.example' };
      expect((await fetch(`${http}/console/api/infer`, { method: 'POST', body: '{}', headers })).status).toBe(403);
    });
  });

  it('is a part of the plugin for fastify if that is wanted', async () => {
    const app = fastify();
    await app.register(infermuxPlugin, { engine: served.engine, prefix: '/ml', console: true });
    await app.register(infermuxPlugin, { engine: served.engine, prefix: '/plain' });
    expect((await app.inject('/ml/console/')).statusCode).toBe(200);
    expect((await app.inject('/ml/console')).headers.location).toBe('console/');
    expect((await app.inject('/plain/console/')).statusCode).toBe(404);
    await app.close();
  });
});
