/**
 * `npm run soak:serve`: keeps a server under a mixed load of REST and gRPC for half an hour, with clients that break off,
 * send what is wrong, and load and unload models, and prints each minute how much memory the server has. `--minutes N` takes
 * another time. Every answer is looked at; the run fails with the first one that is wrong.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connect, type InferenceClient } from '../../dist/client/index.js';
import { encodeModel } from '../../native-models/build/onnx.js';
import { median } from '../load/measurements.js';

const { minutes: given = '30' } = parseArgs({ options: { minutes: { type: 'string' } } }).values;
const MINUTES = Number(given);
if (!(MINUTES > 0)) throw new Error(`--minutes must be a positive number, got ${given}`);

const OWN_MODELS = fileURLToPath(new URL('../../native-models', import.meta.url));
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const HANDLER = fileURLToPath(new URL('../../test/support/serving-handler.mjs', import.meta.url));
const PICTURE = [1, 3, 224, 224] as const;
const PIXELS = 3 * 224 * 224;

const directory = mkdtempSync(join(tmpdir(), 'infermux-soak-'));

function writeFiles(): string {
  const models = join(directory, 'models');
  cpSync(OWN_MODELS, models, { recursive: true, filter: (path) => !path.includes('/build') });
  const channels = encodeModel({
    name: 'channels',
    nodes: [{ opType: 'ReduceMean', input: ['x'], output: ['y'], attributes: { axes: [2, 3], keepdims: 0 } }],
    initializers: [],
    inputs: [{ name: 'x', dims: ['N', 3, 224, 224] }],
    outputs: [{ name: 'y', dims: ['N', 3] }],
  });
  writeFileSync(join(models, 'channels.onnx'), channels);
  const config = join(directory, 'config.json');
  const deployments = { stories: { handler: HANDLER, replicas: 1, maxOngoingRequests: 16 } };
  const engine = { models, replicas: 2, maxModelsPerReplica: 4, deployments };
  const server = { http: { port: 0 }, grpc: { port: 0 }, admin: true, limits: { headersTimeoutMs: 2_000 } };
  writeFileSync(config, JSON.stringify({ engine, server }));
  return config;
}

async function start(config: string): Promise<{ child: ChildProcess; http: string; grpc: string }> {
  const child = spawn(process.execPath, [MAIN, 'serve', '--config', config], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code, signal) => reject(new Error(`infermux serve ended with ${code ?? signal}`)));
    child.stdout?.on('data', (bytes) => {
      text += bytes;
      if (text.includes('Try:')) resolve();
    });
  });
  const [, http = ''] = /REST +(\S+)/.exec(text) ?? [];
  const [, grpc = ''] = /gRPC +(\S+)/.exec(text) ?? [];
  return { child, http, grpc };
}

const counts: Record<string, number> = {};
const image = Float32Array.from({ length: 64 }, (_, index) => index / 64);
const one = <T>(list: readonly T[]) => list[Math.floor(Math.random() * list.length)] as T;

function expect(isRight: boolean, what: string, got: unknown): void {
  if (!isRight) throw new Error(`${what}: ${JSON.stringify(got)?.slice(0, 400)}`);
}

/** The ways of asking: each does one thing and looks at what comes of it. */
function waysOf(http: string, rest: InferenceClient, grpc: InferenceClient, models: readonly string[]) {
  const post = (path: string, body: string, init: RequestInit = {}) =>
    fetch(`${http}${path}`, { method: 'POST', body, ...init });
  const digitsBody = () => ({
    inputs: [{ name: 'image', shape: [1, 64], datatype: 'FP32', data: Array.from(image) }],
  });
  const pixels = new Float32Array(PIXELS).fill(0.5);
  const ways: Record<string, () => Promise<void>> = {
    async json() {
      const answer = await post(`/v2/models/${one(models)}/infer`, JSON.stringify(digitsBody()));
      const { outputs } = (await answer.json()) as { outputs: { data: number[] }[] };
      expect(answer.status === 200 && (outputs[0]?.data.length ?? 0) > 0, 'json', outputs);
    },
    async picture() {
      const { y } = await rest.run('channels', { x: { dims: PICTURE, data: pixels } });
      expect(Math.abs(Number(y?.data[0]) - 0.5) < 1e-5, 'picture', y);
    },
    async pictureByGrpc() {
      const { y } = await grpc.run('channels', { x: { dims: PICTURE, data: pixels } });
      expect(Math.abs(Number(y?.data[2]) - 0.5) < 1e-5, 'picture by gRPC', y);
    },
    async grpc() {
      const answer = await grpc.run(one(models), { image: { dims: [1, 64], data: image } });
      expect((Object.values(answer)[0]?.data.length ?? 0) > 0, 'grpc', answer);
    },
    async stream() {
      let items = 0;
      const client = one([rest, grpc]);
      for await (const item of client.stream<{ index: number }>('stories', { to: 20 }, { method: 'count' })) {
        items += 1;
        expect(item.index === items - 1, 'stream', item);
      }
      expect(items === 20, 'items of a stream', items);
    },
    async leftStream() {
      const client = one([rest, grpc]);
      for await (const _ of client.stream<object>('stories', { to: 1_000, large: 2_000 }, { method: 'count' })) break;
    },
    async brokenOff() {
      const controller = new AbortController();
      const asked = one([rest, grpc]).run<unknown>(
        'stories',
        { ms: 2_000 },
        { method: 'wait', signal: controller.signal },
      );
      setTimeout(() => controller.abort(), 5 + 20 * Math.random());
      await asked.then(
        () => expect(false, 'broken off', 'was answered'),
        () => undefined,
      );
    },
    async wrong() {
      const body = one([
        '{"inputs":[{"name":"image"',
        '{"inputs":7}',
        'x'.repeat(5_000),
        '{"inputs":[{"name":"z","shape":[1],"datatype":"FP32","data":[1]}]}',
      ]);
      const answer = await post(`/v2/models/${one(models)}/infer`, body);
      const { error } = (await answer.json()) as { error: string };
      expect(answer.status === 400 && error !== '', 'wrong', [answer.status, error]);
    },
    async halfSent() {
      const { hostname, port } = new URL(http);
      const socket = connectSocket(Number(port), hostname);
      socket.on('error', () => undefined);
      const head = `POST /v2/models/channels/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 602112\r\nInference-Header-Content-Length: 0\r\n\r\n`;
      socket.write(head + 'x'.repeat(Math.floor(300_000 * Math.random())));
      await sleep(10);
      socket.destroy();
    },
    async reload() {
      const id = one(models);
      for (const verb of ['unload', 'load']) {
        const answer = await post(`/v2/repository/models/${id}/${verb}`, '{}');
        // Two may do it at a time.
        expect(answer.status < 500 || answer.status === 503, verb, [answer.status, await answer.text()]);
      }
    },
    async looks() {
      for (const path of [
        '/v2/health/ready',
        '/v2/models/stats',
        '/metrics',
        '/v2',
        `/v2/models/${one(models)}/config`,
      ]) {
        const answer = await fetch(`${http}${path}`);
        await answer.arrayBuffer();
        expect(answer.status < 500, path, answer.status);
      }
    },
  };
  return ways;
}

const WEIGHTS: Readonly<Record<string, number>> = {
  ...{ json: 200, grpc: 200, picture: 30, pictureByGrpc: 30, stream: 10, leftStream: 10, brokenOff: 10, wrong: 20 },
  ...{ halfSent: 10, reload: 1, looks: 5 },
};
const LOTS = Object.entries(WEIGHTS).flatMap(([name, weight]) => Array.from({ length: weight }, () => name));
/** A model that is being loaded anew is not there for a moment. */
const MAY_BE_GONE = ['json', 'grpc'];
const CALLERS = 24;

const residentMb = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_000;

const { child, http, grpc: grpcAddress } = await start(writeFiles());
let failure: unknown;
try {
  const rest = await connect(http);
  const grpc = await connect(`grpc://${grpcAddress}`);
  const { models: listed } = (await (await fetch(`${http}/v2/models`)).json()) as { models: string[] };
  const models = listed.filter((id) => id.startsWith('digit'));
  const ways = waysOf(http, rest, grpc, models);
  const end = Date.now() + MINUTES * 60_000;
  const caller = async () => {
    while (Date.now() < end && failure === undefined) {
      const name = one(LOTS);
      try {
        await ways[name]?.();
        counts[name] = (counts[name] ?? 0) + 1;
      } catch (error) {
        const isGone = MAY_BE_GONE.includes(name) && /not|unload|no model/i.test(String(error));
        if (isGone) counts['gone'] = (counts['gone'] ?? 0) + 1;
        else failure ??= new Error(`${name} failed`, { cause: error });
      }
    }
  };
  const callers = Array.from({ length: CALLERS }, caller);
  const memory: number[] = [];
  while (Date.now() < end && failure === undefined) {
    await sleep(Math.min(60_000, Math.max(1, end - Date.now())));
    memory.push(residentMb(child.pid as number));
    const asked = Object.values(counts).reduce((sum, count) => sum + count, 0);
    process.stdout.write(`minute ${memory.length}: ${memory.at(-1)?.toFixed(0)} MB resident, ${asked} requests\n`);
  }
  await Promise.all(callers);
  if (failure !== undefined) throw failure;
  await Promise.all([rest.close(), grpc.close()]);
  const third = Math.ceil(memory.length / 3);
  const [middle, last] = [memory.slice(third, 2 * third), memory.slice(-third)].map((part) => median(part));
  process.stdout.write(`${JSON.stringify(counts)}\n`);
  process.stdout.write(`median of the second third ${middle?.toFixed(0)} MB, of the last ${last?.toFixed(0)} MB\n`);
} finally {
  child.removeAllListeners('exit');
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill();
  const code = await closed;
  process.stdout.write(`the server ended with ${code}\n`);
  rmSync(directory, { recursive: true, force: true });
}
