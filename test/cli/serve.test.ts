import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { connect } from '../../dist/client/index.js';
import type { InfermuxError } from '../../dist/index.js';
import { directory } from '../support/directories.js';
import { infermux, infermuxWith, MAIN } from '../support/infermux.js';
import { scaleModel, slowRunModel } from '../support/onnx-models.js';

/** More by hand: a second for each. */
const ROUNDS = Number(process.env['INFERMUX_ROUNDS'] ?? 4);

const children: ChildProcessWithoutNullStreams[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  readonly greeting: string;
  readonly http: string;
  readonly grpc: string;
  readonly ended: Promise<{ code: number | null; signal: string | null; stderr: string }>;
}

/** Starts the command on free ports, and resolves when it is ready. */
function start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Started> {
  const ports = ['--http-port', '0', '--grpc-port', '0'];
  const child = spawn(process.execPath, [MAIN, 'serve', ...ports, ...args], { env: { ...process.env, ...env } });
  children.push(child);
  let [greeting, stderr] = ['', ''];
  child.stderr.on('data', (text) => (stderr += text));
  const ended = new Promise<Awaited<Started['ended']>>((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal, stderr })),
  );
  return new Promise((resolve, reject) => {
    child.stdout.on('data', (text) => {
      greeting += text;
      if (!greeting.includes('Try:\n') || !greeting.endsWith('\n')) return;
      const http = `http://${/REST +http:\/\/(\S+)/.exec(greeting)?.[1]}`;
      resolve({ child, greeting, http, grpc: `grpc://${/gRPC +(\S+)/.exec(greeting)?.[1]}`, ended });
    });
    ended.then(({ code }) => reject(new Error(`ended with ${code}: ${stderr}`)));
  });
}

const row = { x: { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } };

describe('infermux serve', () => {
  it("serves the package's models without a directory, and says what to try", async () => {
    const { greeting, http, child, ended } = await start([]);
    expect(greeting).toContain('infermux serves 12 models from ');
    const command = /curl (\S+) -d '(.*)'/.exec(greeting) as RegExpExecArray;
    const answer = await fetch(command[1] as string, { method: 'POST', body: command[2] as string });
    expect(await answer.json()).toMatchObject({ model_name: 'digit-0' });
    expect(greeting).toContain('inference.GRPCInferenceService/ServerReady');
    expect(greeting).toContain(`open ${http}/openapi.json in a browser`);
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  });

  it('says how to send a request that is too long for a command line', async () => {
    const { greeting, child, ended } = await start([directory({ "it's.onnx": scaleModel(2, 1_000) })]);
    const [command = ''] = /node -p .*/.exec(greeting) ?? [];
    const { stdout } = await promisify(execFile)('sh', ['-c', command], { maxBuffer: 2 ** 20 });
    expect(JSON.parse(stdout)).toMatchObject({ model_name: "it's", outputs: [{ name: 'y', shape: [1, 1_000] }] });
    child.kill('SIGINT');
    expect(await ended).toMatchObject({ code: 0 });
  });

  it('makes spans of OpenTelemetry for a provider that was registered before', async () => {
    const telemetry = new URL('../support/telemetry.mjs', import.meta.url);
    const { greeting, child, ended } = await start([], { NODE_OPTIONS: `--import ${telemetry}` });
    const [, address, body] = /curl (\S+) -d '(.*)'/.exec(greeting) as unknown as [string, string, string];
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    expect((await fetch(address, { method: 'POST', body, headers: { traceparent } })).status).toBe(200);
    child.kill('SIGINT');
    const { code, stderr } = await ended;
    expect(code).toBe(0);
    expect(stderr).toContain('span infermux.infer in 0af7651916cd43dd8448eb211c80319c');
  });

  it('serves a flat directory of KServe under the name that it has there', async () => {
    const { http } = await start([directory({ 'model.onnx': scaleModel(2) }), '--model-name', 'iris']);
    const client = await connect(http);
    expect((await client.run('iris', row)).y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
    expect((await client.run('model', row)).y?.data).toStrictEqual(Float32Array.of(2, 4, 6, 8));
    await client.close();
  });

  it.each([
    [
      'config.json',
      (port: number) =>
        JSON.stringify({ engine: { replicas: 1 }, server: { grpc: false, limits: { bodyBytes: 1_000 + port } } }),
    ],
    ['config.mjs', () => 'export default { engine: { replicas: 1 }, server: { grpc: false } };'],
    ['config.js', () => 'export default { engine: { replicas: 1 }, server: { grpc: false } };'],
    ['config.cjs', () => 'module.exports = { engine: { replicas: 1 }, server: { grpc: false } };'],
    [
      'config.ts',
      () => 'const replicas: number = 1;\nexport default { engine: { replicas }, server: { grpc: false as const } };',
    ],
  ])('reads %s, over which the flags go', async (name, text) => {
    const models = directory({ 'times-2.onnx': scaleModel(2), 'times-3.onnx': scaleModel(3) });
    // No module by what is said of the folder, nor by what may be said above it.
    const files = directory({ [name]: text(0), 'package.json': '{}' });
    const printed = await infermux(
      'serve',
      models,
      '--config',
      `${files}/${name}`,
      '--print-config',
      '--grpc-port',
      '9',
    );
    expect(JSON.parse(printed.stdout)).toMatchObject({
      engine: { models, replicas: 1 },
      server: { grpc: { port: 9 } },
    });
  });

  it('takes the environment for more than the file, and the flags for more than that', async () => {
    const server = { host: 'file', auth: { keys: ['a-secret-of-mine'] }, http: { port: 1 }, drainDelayMs: 5 };
    const files = directory({ 'c.json': JSON.stringify({ engine: { replicas: 1, maxModelsPerReplica: 7 }, server }) });
    const env = {
      ...{ INFERMUX_REPLICAS: '2', INFERMUX_HTTP_PORT: '2', INFERMUX_HOST: 'env', INFERMUX_DRAIN_DELAY: '' },
      ...{ INFERMUX_ADMIN: 'off', INFERMUX_LOG_REQUESTS: 'no', INFERMUX_GRPC_PORT: '' },
    };
    const args = ['serve', '--config', `${files}/c.json`, '--print-config', '--http-port', '3'];
    const { stdout, stderr, code } = await infermuxWith(env, ...args);
    expect({ stderr, code }).toStrictEqual({ stderr: '', code: 0 });
    const printed = JSON.parse(stdout);
    expect(printed).toMatchObject({
      engine: { replicas: 2, maxModelsPerReplica: 7 },
      server: { host: 'env', http: { port: 3 }, admin: false, drainDelayMs: 5, auth: { keys: '(secret)' } },
    });
    expect(printed.server).not.toHaveProperty('logRequests');
    expect(printed.server.grpc.port).toBe(8001);
    expect(stdout).not.toContain('a-secret-of-mine');
  });

  it('takes its settings from the environment', async () => {
    const models = directory({ 'times-2.onnx': scaleModel(2) });
    const keys = `${directory({ keys: 'a-long-key\n' })}/keys`;
    const { http } = await start([], { INFERMUX_MODELS: models, INFERMUX_API_KEYS: keys, INFERMUX_REPLICAS: '1' });
    expect((await fetch(`${http}/v2/models`)).status).toBe(401);
    const answer = await fetch(`${http}/v2/models`, { headers: { 'x-api-key': 'a-long-key' } });
    expect(await answer.json()).toStrictEqual({ models: ['times-2'] });
  });

  it.each([
    [['--http-port', 'x'], 2, 'expected a port from 0 to 65535'],
    [['--replicas', '0'], 2, 'expected an integer from 1'],
    [['--log-level', 'loud'], 2, 'Allowed choices are silent'],
    [['--nothing'], 2, "unknown option '--nothing'"],
    [['--admin', 'nowhere'], 2, 'expected host:port'],
    [['--config', '/nowhere/config.json'], 2, 'the configuration "/nowhere/config.json" cannot be read'],
    [['--tls-key', 'key.pem'], 2, '--tls-key and --tls-cert go together'],
    [
      ['--tls-key', '/nowhere/key', '--tls-cert', '/nowhere/cert'],
      2,
      '--tls-key: "/nowhere/key" cannot be read: ENOENT',
    ],
    [['--cors', 'example.com', '--http-port', '0'], 2, 'server.cors must be a list of origins'],
    [['--no-http', '--no-grpc'], 2, 'http and grpc must not both be false'],
    [['/nowhere/models'], 1, 'ENOENT'],
    [
      ['--model-name', 'iris', '--http-port', '0', '--grpc-port', '0'],
      2,
      '--model-name is for one model, and there are 12',
    ],
  ])('refuses %j', async (args, code, message) => {
    const result = await infermux('serve', ...args);
    expect(result).toMatchObject({ code, stderr: expect.stringContaining(message) });
    expect(result.stdout).toBe('');
  });

  it('ends at once at the second signal, while a run goes on', async () => {
    const models = directory({ 'slow.onnx': slowRunModel(4_000) });
    const { http, child, ended } = await start([models, '--replicas', '1', '--log-level', 'error']);
    const client = await connect(http, { retries: 0 });
    const single = { x: { dims: [1], data: Float32Array.of(1) } };
    const waiting = client.run('slow', single).catch(({ code }: InfermuxError) => code);
    const ongoing = async () => /ongoing_requests (\d+)/.exec(await (await fetch(`${http}/metrics`)).text())?.[1];
    await expect.poll(ongoing, { timeout: 10_000 }).toBe('1');
    child.kill('SIGTERM');
    child.kill('SIGTERM');
    child.kill('SIGINT');
    const began = performance.now();
    const { signal, stderr } = await ended;
    // A thread cannot be ended within a native call, so the process is.
    expect(signal).toBe('SIGKILL');
    expect(stderr).toBe('');
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await waiting).toBe('REPLICA_FAILED');
  });

  it('loses no accepted request when it is ended under load of both protocols', async () => {
    const models = directory({ 'times-2.onnx': scaleModel(2) });
    for (let round = 0; round < ROUNDS; round += 1) {
      const { http, grpc, child, ended } = await start([models]);
      const clients = [await connect(http, { retries: 0 }), await connect(grpc, { retries: 0 })];
      const answered = [0, 0];
      const lost: unknown[] = [];
      const callers = clients.flatMap((client, index) =>
        Array.from({ length: 16 }, async () => {
          for (;;) {
            try {
              const { y } = await client.run('times-2', row);
              if (y?.data[3] !== 8) lost.push(y);
              answered[index] = (answered[index] ?? 0) + 1;
            } catch (error) {
              // It had no connection, so its request was never accepted.
              if ((error as { wasSent?: boolean }).wasSent !== false) lost.push(error);
              return;
            }
          }
        }),
      );
      await expect.poll(() => Math.min(...answered), { timeout: 20_000 }).toBeGreaterThan(100 * (round + 1));
      child.kill('SIGTERM');
      await Promise.all(callers);
      expect(lost).toStrictEqual([]);
      expect(await ended).toMatchObject({ code: 0, signal: null });
      await Promise.all(clients.map((client) => client.close()));
    }
  }, 240_000);
});
