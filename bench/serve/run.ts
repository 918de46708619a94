/**
 * `npm run bench:serve`: measures the server of the Open Inference Protocol against bare servers without a model, in the
 * same run. Server, bare servers and load are processes of their own. The load is made by `h2load` (Debian's
 * nghttp2-client). Prints medians of the rounds. `--rounds N` runs N rounds instead of five; `--connections N` holds N
 * idle connections instead of 10,000.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { connect } from '../../dist/client/index.js';
import { encodeRequest, encodeResponse } from '../../dist/open-inference/grpc/infer-codec.js';
import { encodeModel } from '../../native-models/build/onnx.js';
import { median } from '../load/measurements.js';
import { type Goal, goalTable, judge, markdown, place, writeInto } from '../report.js';
import { watchStolenTime } from '../stolen-time.js';
import { askOnce, Child, hasH2load, openIdle, percentile99, requestsPerSecond } from './load.js';

const { rounds: givenRounds = '5', connections: givenConnections = '10000' } = parseArgs({
  options: { rounds: { type: 'string' }, connections: { type: 'string' } },
}).values;
const ROUNDS = Number(givenRounds);
const IDLE = Number(givenConnections);
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be a positive integer, got ${givenRounds}`);
if (!hasH2load())
  throw new Error("the load is made by h2load: install Debian's nghttp2-client, or another package of nghttp2");

const PICTURE = [1, 3, 224, 224] as const;
const PIXELS = 3 * 224 * 224;
const NUMBERS = 1_000_000;

const files = mkdtempSync(join(tmpdir(), 'infermux-bench-serve-'));
const put = (name: string, ...parts: readonly (Uint8Array | string)[]) => {
  const path = join(files, name);
  writeFileSync(path, Buffer.concat(parts.map((part) => Buffer.from(part))));
  return path;
};

/** Means of the channels of a picture, and a copy of a list. */
function writeModels(): string {
  const models = mkdtempSync(join(files, 'models-'));
  const mean = encodeModel({
    name: 'channels',
    nodes: [{ opType: 'ReduceMean', input: ['x'], output: ['y'], attributes: { axes: [2, 3], keepdims: 0 } }],
    initializers: [],
    inputs: [{ name: 'x', dims: ['N', 3, 224, 224] }],
    outputs: [{ name: 'y', dims: ['N', 3] }],
  });
  const sum = encodeModel({
    name: 'sum',
    nodes: [{ opType: 'ReduceMean', input: ['x'], output: ['y'], attributes: { axes: [1], keepdims: 1 } }],
    initializers: [],
    inputs: [{ name: 'x', dims: ['N', NUMBERS] }],
    outputs: [{ name: 'y', dims: ['N', 1] }],
  });
  writeFileSync(join(models, 'channels.onnx'), mean);
  writeFileSync(join(models, 'sum.onnx'), sum);
  return models;
}

const image = Float32Array.from({ length: 64 }, (_, index) => index / 64);
const json = { id: 'a', inputs: [{ name: 'image', shape: [1, 64], datatype: 'FP32', data: Array.from(image) }] };
const jsonFile = put('digits.json', JSON.stringify(json));
const head = JSON.stringify({
  inputs: [{ name: 'x', shape: PICTURE, datatype: 'FP32', parameters: { binary_data_size: PIXELS * 4 } }],
  parameters: { binary_data_output: true },
});
const pictureFile = put('picture', head, new Uint8Array(new Float32Array(PIXELS).fill(0.5).buffer));
const frame = (message: Buffer) => {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
};
const tensor = { name: 'image', datatype: 'FP32', shape: [1, 64], parameters: {}, contents: undefined };
const base = { model_name: 'digits-mlp', model_version: '', id: '', parameters: {} };
const grpcFile = put(
  'digits.grpc',
  frame(encodeRequest({ ...base, inputs: [tensor], outputs: [], raw_input_contents: [Buffer.from(image.buffer)] })),
);
const numbers = Array.from({ length: NUMBERS }, (_, index) => Math.fround(index / 7));
const largeJson = JSON.stringify({ inputs: [{ name: 'x', shape: [1, NUMBERS], datatype: 'FP32', data: numbers }] });

const own = fileURLToPath(new URL('../../native-models', import.meta.url));
const models = writeModels();

interface Ports {
  readonly http: number;
  readonly grpc: number;
}
interface Round {
  readonly json: readonly [number, number];
  readonly binary: readonly [number, number];
  readonly grpc: readonly [number, number];
  readonly blockMs: number;
  readonly p99Ms: number;
  readonly startMs: number;
}

const at = (port: number, path = '/v2/models/digits-mlp/infer') => `http://127.0.0.1:${port}${path}`;
const GRPC = { streams: 64, headers: ['content-type: application/grpc', 'te: trailers'], file: grpcFile };
const grpcAt = (port: number) => ({ ...GRPC, url: at(port, '/inference.GRPCInferenceService/ModelInfer') });

/** What the server answers, for the bare servers to answer the same. */
async function answersOf(ports: Ports, pictures: Ports): Promise<string> {
  const asJson = await (await fetch(at(ports.http), { method: 'POST', body: JSON.stringify(json) })).json();
  const client = await connect(`http://127.0.0.1:${pictures.http}`);
  await client.run('channels', { x: { dims: PICTURE, data: new Float32Array(PIXELS) } });
  await client.close();
  const binary = await fetch(at(pictures.http, '/v2/models/channels/infer'), {
    method: 'POST',
    headers: { 'inference-header-content-length': String(head.length) },
    body: Buffer.concat([Buffer.from(head), Buffer.alloc(PIXELS * 4)]),
  });
  const raw = Buffer.alloc(40);
  const outputs = [{ ...tensor, name: 'probabilities', shape: [1, 10] }];
  const grpcAnswer = encodeResponse({ ...base, model_version: '1', outputs, raw_output_contents: [raw] });
  const binaryBytes = (await binary.arrayBuffer()).byteLength;
  return JSON.stringify({ json: asJson, binaryBytes, grpcAnswer: grpcAnswer.toString('base64') });
}

async function longestBlock(server: Child, port: number): Promise<number> {
  const send = async () => {
    const answer = await fetch(at(port, '/v2/models/sum/infer'), { method: 'POST', body: largeJson });
    if (!answer.ok) throw new Error(await answer.text());
    await answer.arrayBuffer();
  };
  for (let index = 0; index < 5; index += 1) await send();
  await server.ask('watch');
  for (let index = 0; index < 5; index += 1) await send();
  return (await server.ask<{ readonly blockMs: number }>('block')).blockMs;
}

/** From the start of the command to its first answer, with the twelve models of the package. */
async function startMs(): Promise<number> {
  const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
  const began = performance.now();
  const child = spawn(process.execPath, [main, 'serve', '--http-port', '0', '--grpc-port', '0']);
  let text = '';
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`infermux serve ended with ${code}`)));
    child.stdout.on('data', (bytes) => {
      text += bytes;
      if (text.includes('Try:')) resolve();
    });
  });
  const url = /REST +(\S+)/.exec(text)?.[1];
  const { ok } = await fetch(`${url}/v2/health/ready`);
  if (!ok) throw new Error('not ready');
  const took = performance.now() - began;
  child.removeAllListeners('exit');
  child.kill();
  await new Promise((resolve) => child.once('close', resolve));
  return took;
}

const measured: Round[] = [];
const stolenTime = watchStolenTime();
let idleBytes = Number.POSITIVE_INFINITY;
try {
  const [digits, ports] = await Child.start<Ports>('server.mjs', own);
  const [large, pictures] = await Child.start<Ports>('server.mjs', models);
  const [bare, peers] = await Child.start<Ports & { fastify: number }>('peers.mjs', await answersOf(ports, pictures));
  const jsonLoad = { file: jsonFile, connections: 64, headers: ['content-type: application/json'] };
  const headers = [`inference-header-content-length: ${head.length}`];
  const binaryLoad = { file: pictureFile, connections: 16, headers };
  for (let round = 0; round < ROUNDS; round += 1) {
    process.stderr.write(`round ${round + 1} of ${ROUNDS}\n`);
    const both = async (ours: Parameters<typeof requestsPerSecond>[0], theirs: typeof ours) =>
      [await requestsPerSecond(ours), await requestsPerSecond(theirs)] as const;
    const jsonRates = await both({ ...jsonLoad, url: at(ports.http) }, { ...jsonLoad, url: at(peers.fastify) });
    measured.push({
      json: jsonRates,
      binary: await both(
        { ...binaryLoad, url: at(pictures.http, '/v2/models/channels/infer') },
        { ...binaryLoad, url: at(peers.http, '/') },
      ),
      grpc: await both(grpcAt(ports.grpc), grpcAt(peers.grpc)),
      blockMs: await longestBlock(large, pictures.http),
      p99Ms: await percentile99({ ...jsonLoad, url: at(ports.http) }, jsonRates[0] * 0.7),
      startMs: await startMs(),
    });
  }
  const [fresh, freshPorts] = await Child.start<Ports>('server.mjs', own);
  await fetch(at(freshPorts.http), { method: 'POST', body: JSON.stringify(json) });
  const before = await fresh.ask<{ readonly rss: number }>('memory');
  const sockets = await openIdle(freshPorts.http, IDLE);
  // Each has had a request, as those of clients that keep their connections.
  await askOnce(sockets, '/v2/health/live');
  const after = await fresh.ask<{ readonly rss: number }>('memory');
  idleBytes = (after.rss - before.rss) / sockets.length;
  const still = await fetch(at(freshPorts.http), { method: 'POST', body: JSON.stringify(json) });
  if (!still.ok) throw new Error('the server does not answer beside idle connections');
  for (const socket of sockets) socket.destroy();
  fresh.stop();
  for (const child of [digits, large, bare]) child.stop();
} finally {
  rmSync(files, { recursive: true, force: true });
}

const goal = (
  what: string,
  values: readonly number[],
  unit: Goal['unit'],
  limit: number,
  aim: number,
  atMost = false,
) => judge({ what, values, unit, limit, aim, atMost });
const ratios = (read: (round: Round) => readonly [number, number]) =>
  measured.map(read).map(([ours, bare]) => ours / bare);
const goals = [
  goal(
    'JSON, digits-mlp, 64 connections, relative to a fastify route without a model',
    ratios((round) => round.json),
    '×',
    0.6,
    0.8,
  ),
  goal(
    'binary, 3×224×224, 16 connections, relative to a node:http server without a model',
    ratios((round) => round.binary),
    '×',
    0.6,
    0.8,
  ),
  goal(
    'gRPC raw, digits-mlp, 64 streams, relative to a grpc-js server without a model',
    ratios((round) => round.grpc),
    '×',
    0.6,
    0.8,
  ),
  goal(
    'JSON body of 1,000,000 numbers: longest block of the event loop',
    measured.map((round) => round.blockMs),
    'ms',
    25,
    10,
    true,
  ),
  goal(
    'p99 at 70 % of the capacity, JSON',
    measured.map((round) => round.p99Ms),
    'ms',
    15,
    8,
    true,
  ),
  goal(`memory of each of ${IDLE} idle connections`, [idleBytes / 1_000], 'kB', 20, 20, true),
  goal(
    'from the start of the process to the first answer, twelve models',
    measured.map((round) => round.startMs / 1_000),
    's',
    1.5,
    0.7,
    true,
  ),
];
const rate = (read: (round: Round) => number) => median(measured.map(read)).toFixed(0);
const details = markdown(
  ['requests/s', 'infermux', 'bare'],
  [
    ['JSON, digits-mlp', rate(({ json: [ours] }) => ours), rate(({ json: [, bare] }) => bare)],
    ['binary, 3×224×224', rate(({ binary: [ours] }) => ours), rate(({ binary: [, bare] }) => bare)],
    ['gRPC raw, digits-mlp', rate(({ grpc: [ours] }) => ours), rate(({ grpc: [, bare] }) => bare)],
  ],
);
const table = goalTable(goals);
process.stdout.write(`${details}\n\n${table}\n`);
const stolen = stolenTime();
const how = `${place}. ${ROUNDS} rounds, medians${stolen === undefined ? '' : `; ${stolen}`}.`;
process.stdout.write(`${how}\n`);
writeInto('bench:serve', `${how}\n\n${details}\n\n${table}`, 'docs/serving.md');
