import { spawn } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { topLines } from '../../dist/cli/top/top-screen.js';
import type { Snapshot } from '../../dist/console/messages.js';
import { createServer } from '../../dist/server/index.js';
import { directory } from '../support/directories.js';
import { type Served, startServed } from '../support/engines/served-engine.js';
import { infermux, infermuxWith, MAIN } from '../support/infermux.js';

const x = { x: { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } };

let served: Served;
let load: NodeJS.Timeout;
beforeAll(async () => {
  served = await startServed();
  load = setInterval(() => void served.engine.run('times-2', x), 10);
});
afterAll(() => {
  clearInterval(load);
  return served.close();
});

describe('infermux top', () => {
  it('shows one screen where there is no terminal: rates, deployments, replicas and models', async () => {
    const { code, stdout, stderr } = await infermux('top', '--url', served.http);
    expect({ code, stderr }).toStrictEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^infermux \d\S* {2}ready/);
    expect(stdout).toMatch(/\n[1-9]\d* requests\/s/);
    expect(stdout).toMatch(/\ndefault +healthy +2\/2/);
    expect(stdout).toMatch(/\ndefault-0 +running/);
    expect(stdout).toMatch(/\ntimes-2@1 +[1-9]\d*/);
  });

  it('prints a line of JSON for each second, until a signal ends it', async () => {
    const child = spawn(process.execPath, [MAIN, 'top', '--url', served.http, '--json']);
    let text = '';
    child.stdout.on('data', (piece) => (text += piece));
    await expect.poll(() => text.split('\n').length, { timeout: 15_000 }).toBeGreaterThan(2);
    const ended = new Promise((resolve) => child.on('close', resolve));
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    const [first] = text.split('\n');
    expect((JSON.parse(first as string) as Snapshot).replicas.length).toBeGreaterThanOrEqual(2);
  });

  it('needs a key where the server does', async () => {
    const auth = { keys: ['a-secret-of-some-length'] };
    const server = await createServer(served.engine, { http: { port: 0 }, grpc: false, auth });
    const url = `http://127.0.0.1:${server.http?.port}`;
    const keys = `${directory({ keys: 'a-secret-of-some-length\n' })}/keys`;
    expect((await infermux('top', '--url', url)).stderr).toContain('a key is needed: name its file with --api-keys');
    expect(await infermuxWith({ INFERMUX_URL: url }, 'top', '--api-keys', keys)).toMatchObject({ code: 0, stderr: '' });
    await server.close();
  });

  it.each([
    ['ftp://x', 2, '--url must be like http://localhost:8000, got "ftp://x"'],
    ['127.0.0.1:2', 1, 'cannot get the state of http://127.0.0.1:2: '],
  ])('says what is wrong with the address %s', async (url, code, message) => {
    const result = await infermux('top', '--url', url);
    expect(result.code).toBe(code);
    expect(result.stderr).toContain(message);
  });

  it('says that there is no console', async () => {
    const server = await createServer(served.engine, { http: { port: 0 }, grpc: false, console: false });
    const { code, stderr } = await infermux('top', '--url', `http://127.0.0.1:${server.http?.port}`);
    expect([code, stderr.trim()]).toStrictEqual([
      1,
      `infermux: http://127.0.0.1:${server.http?.port} answered 404: there is no console: start it with infermux serve, without --no-console`,
    ]);
    await server.close();
  });
});

describe('a screen', () => {
  const snapshot: Snapshot = {
    ...{ at: 0, version: '1.2.3', isReady: false, isAdmin: false, modelCount: 50 },
    total: {
      ...{ requests: 1_234.5, errors: 2, latency: { p50: 0.5, p95: 20, p99: 1_500 }, queued: 7, ongoing: 3 },
      ...{ batch: 4, loads: 0, evictions: 1 },
    },
    models: Array.from({ length: 50 }, (_, index) => ({
      ...{ id: `model-${index}\u001b[2J`, version: 1, bytes: 1, queued: 0, replicas: 0, requests: index, errors: 0 },
      latency: undefined,
    })),
    ...{ replicas: [], deployments: [] },
    endpoints: [
      { name: 'digits', perSecond: 12, traffic: [{ target: 'a', share: 0.9 }], shadows: [{ target: 'b', share: 0.1 }] },
    ],
    events: Array.from({ length: 9 }, (_, index) => ({
      ...{ number: index, at: 0, kind: 'load' as const, text: `r0 loaded m${index}\u001b[2J` },
    })),
    errors: [{ code: 'QUEUE_FULL', message: 'full', model: 'a', count: 9, at: 0 }],
  };

  it('has room for the busiest models and the last errors, and steers no terminal', () => {
    const lines = topLines(snapshot, { height: 30, width: 60 });
    expect(lines).toHaveLength(30);
    expect(lines.every((line) => line.length <= 60)).toBe(true);
    const text = lines.join('\n');
    expect(text).toContain('1,235 requests/s, 4 a call');
    expect(text).toContain('p50 0.50 ms  p95 20 ms  p99 1.5 s');
    expect(text).toContain('model-49\\u001b[2J@1');
    expect(text).not.toContain('model-3\\');
    expect(text).toContain('QUEUE_FULL ×9  full');
    expect(text).toMatch(/digits +12 +a 90 % +b 10 %/);
    expect(text).toContain('r0 loaded m8\\u001b[2J');
    expect(text).not.toContain('r0 loaded m5');
    expect(text).not.toContain('\u001b[2J');
  });
});
