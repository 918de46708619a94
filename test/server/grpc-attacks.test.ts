import { connect as connectHttp2, constants } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import protobuf from 'protobufjs/minimal.js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { encodeRequest } from '../../dist/open-inference/grpc/infer-codec.js';
import { createServer, type InferenceServer } from '../../dist/server/index.js';
import { type Served, startServed } from '../support/engines/served-engine.js';

const LIMITS = {
  bodyBytes: 10_000_000,
  totalBodyBytes: 20_000_000,
  requests: 30,
  connections: 20,
  headersTimeoutMs: 500,
  requestTimeoutMs: 900,
  writeTimeoutMs: 600,
};

let served: Served;
let port: number;
beforeAll(async () => {
  served = await startServed({ limits: LIMITS });
  port = served.server.grpc?.port as number;
});
afterAll(() => served.close());

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const PATH = '/inference.GRPCInferenceService/ModelInfer';
const STREAM_PATH = '/inference.GRPCInferenceService/ModelStreamInfer';
const REFLECTION_PATH = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const HUGE = 1_000_000;

/** Made once: while it is made, no connection does what the server waits for. */
const HUGE_REQUEST = encodeRequest({
  ...{ model_name: 'huge', model_version: '', id: '', parameters: {}, outputs: [] },
  inputs: [{ name: 'x', datatype: 'FP32', shape: [1, HUGE], parameters: {}, contents: undefined }],
  raw_input_contents: [Buffer.alloc(HUGE * 4)],
});

function framed(message: Buffer, announced = message.length, isCompressed = false): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(isCompressed ? 1 : 0);
  prefix.writeUInt32BE(announced, 1);
  return Buffer.concat([prefix, message]);
}

/** A connection that reads no answers if its window is 0. */
function open(window = 65_535, address = port) {
  // The client resets a stream whose answer comes while it has more megabytes to send than this.
  const maxSessionMemory = 1_024;
  const settings = { initialWindowSize: window };
  const session = connectHttp2(`http://127.0.0.1:${address}`, { settings, maxSessionMemory });
  session.on('error', () => undefined);
  ends.push(() => session.destroy());
  const closed = new Promise<void>((resolve) => session.once('close', resolve));
  const call = (headers: Record<string, string> = {}) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    stream.on('error', () => undefined);
    const status = new Promise<string>((resolve) => {
      stream.on('response', (given) => given['grpc-status'] && resolve(String(given['grpc-status'])));
      stream.on('trailers', (given) => resolve(String(given['grpc-status'])));
      stream.on('close', () => resolve('closed'));
    });
    stream.resume();
    return { stream, status };
  };
  return { session, closed, call };
}

const gauge = async (name: string) => {
  const text = await (await fetch(`${served.http}/metrics`)).text();
  return Number(new RegExp(`^infermux_server_${name} (\\d+)$`, 'm').exec(text)?.[1]);
};

async function expectNothingLeft(): Promise<void> {
  await expect.poll(() => gauge('ongoing_requests'), { timeout: 10_000 }).toBe(0);
  await expect.poll(() => gauge('body_bytes'), { timeout: 10_000 }).toBe(0);
}

describe('over gRPC a client that', () => {
  it('never reads its answers keeps their places, and is cut off', async () => {
    const { call, closed } = open(0);
    const calls = Array.from({ length: 4 }, () => call());
    for (const { stream } of calls) stream.end(framed(HUGE_REQUEST));
    await expect.poll(() => gauge('ongoing_requests'), { timeout: 10_000 }).toBe(4);
    await closed;
    await expectNothingLeft();
  });

  it('goes away with its request on the way leaves nothing behind', async () => {
    const { call } = open();
    for (let round = 0; round < 20; round += 1) {
      const calls = Array.from({ length: 10 }, () => call());
      for (const { stream } of calls) {
        stream.end(framed(HUGE_REQUEST.subarray(0, 60)));
        stream.close(constants.NGHTTP2_CANCEL);
      }
      await Promise.all(calls.map(({ status }) => status));
    }
    await expectNothingLeft();
  });

  it.each([PATH, STREAM_PATH, REFLECTION_PATH])('sends half of its message is given up: %s', async (path) => {
    const { call } = open();
    const { stream, status } = call({ ':path': path });
    stream.write(framed(Buffer.alloc(1_000), 5_000_000));
    // DEADLINE_EXCEEDED
    expect(await status).toBe('4');
  });

  it('sends its message and never says that there is no more is given up', async () => {
    const { call } = open();
    const { stream, status } = call();
    stream.write(framed(HUGE_REQUEST));
    expect(await status).toBe('4');
  });

  it('leaves a stream open without a word may stay', async () => {
    const { call } = open();
    const { stream, status } = call({ ':path': STREAM_PATH });
    stream.write(framed(HUGE_REQUEST));
    const first = await Promise.race([status, new Promise((resolve) => setTimeout(resolve, 2_500, 'open'))]);
    expect(first).toBe('open');
    stream.end();
    expect(await status).toBe('0');
  });

  describe('that is patient', () => {
    // Messages would be given up one by one.
    const limits = { ...LIMITS, requestTimeoutMs: 60_000 };
    let patient: InferenceServer;
    beforeAll(async () => {
      patient = await createServer(served.engine, { http: false, grpc: { port: 0 }, limits });
    });
    afterAll(() => patient.close({ graceMs: 0 }));

    it.each([
      [PATH, 9_000_000],
      [PATH, 8_000_000],
      [STREAM_PATH, 9_000_000],
      [REFLECTION_PATH, 9_000_000],
    ])('fills the memory with messages that it does not end, and is refused: %s, %i', async (path, announced) => {
      const { call } = open(65_535, patient.grpc?.port as number);
      const calls = Array.from({ length: 4 }, () => call({ ':path': path }));
      for (const { stream } of calls) stream.write(framed(Buffer.alloc(8_000_000), announced));
      // RESOURCE_EXHAUSTED, of as many as there is no room for.
      expect(await Promise.any(calls.map(({ status }) => status))).toBe('8');
      const small = call();
      small.stream.end(framed(HUGE_REQUEST));
      expect(await small.status).toBe('0');
    });

    it('brings more metadata than it may is refused', async () => {
      const { call } = open(65_535, patient.grpc?.port as number);
      expect(await call({ x: 'x'.repeat(17_000) }).status).toBe('8');
    });

    it('opens very many streams on many connections is refused', async () => {
      const connections = Array.from({ length: 3 }, () => open(65_535, patient.grpc?.port as number));
      const calls = connections.flatMap(({ call }) =>
        Array.from({ length: LIMITS.requests - 2 }, () => call({ ':path': STREAM_PATH })),
      );
      expect(await Promise.any(calls.map(({ status }) => status))).toBe('8');
      // Node's client corrupts its memory when it is destroyed with many open streams.
      for (const { stream } of calls) stream.end();
      await Promise.all(calls.map(({ status }) => status));
    });
  });

  it('mixes messages that are compressed and that are not leaves nothing behind', async () => {
    const { call } = open();
    const plain = HUGE_REQUEST;
    const small = gzipSync(plain);
    for (let round = 0; round < 5; round += 1) {
      const { stream, status } = call({ ':path': STREAM_PATH, 'grpc-encoding': 'gzip' });
      stream.write(framed(Buffer.alloc(0)));
      stream.write(framed(small, small.length, true));
      stream.write(framed(plain));
      stream.end(framed(small, small.length, true));
      expect(await status).toBe('0');
    }
    await expectNothingLeft();
  });

  it('leaves the answers of a stream unread has no more in memory than its requests may take', async () => {
    const { call, closed } = open(0);
    const small = gzipSync(HUGE_REQUEST);
    const { stream } = call({ ':path': STREAM_PATH, 'grpc-encoding': 'gzip' });
    let most = 0;
    const timer = setInterval(async () => (most = Math.max(most, await gauge('body_bytes'))), 20);
    for (let index = 0; index < 3; index += 1) stream.write(framed(small, small.length, true));
    await closed;
    clearInterval(timer);
    expect(most).toBeGreaterThan(LIMITS.totalBodyBytes / 2);
    expect(most).toBeLessThanOrEqual(LIMITS.totalBodyBytes);
    await expectNothingLeft();
  });

  it('leaves the answers of the reflection unread is cut off', async () => {
    const { call, closed } = open(0);
    const { stream } = call({ ':path': REFLECTION_PATH });
    const asked = protobuf.Writer.create().uint32(58).string('').finish();
    stream.write(Buffer.concat(Array.from({ length: 2_000 }, () => framed(Buffer.from(asked)))));
    await closed;
  });

  it('asks the reflection for what is no request is told so', async () => {
    const { call } = open();
    for (const message of [Buffer.from([255, 255]), Buffer.alloc(100_000)]) {
      const { stream, status } = call({ ':path': REFLECTION_PATH });
      stream.end(framed(message));
      expect(await status).toBe('0');
    }
  });

  it('reads its answer slowly gets all of it', async () => {
    const session = connectHttp2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 300_000 } });
    session.on('error', () => undefined);
    ends.push(() => session.destroy());
    const stream = session.request({
      ...{ ':method': 'POST', ':path': PATH, 'content-type': 'application/grpc', te: 'trailers' },
    });
    stream.end(framed(HUGE_REQUEST));
    let bytes = 0;
    for await (const piece of stream) {
      bytes += piece.length;
      // Four megabytes in about three times as long as a client may read nothing.
      await new Promise((resolve) => setTimeout(resolve, piece.length / 2_200));
    }
    expect(bytes).toBeGreaterThan(4_000_000);
  });

  it('sends messages that grow when they are inflated is refused what there is no room for', async () => {
    const { call } = open();
    const bomb = gzipSync(Buffer.alloc(9_900_000));
    const before = process.memoryUsage().rss;
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, process.memoryUsage().rss - before)), 10);
    const asked = [PATH, STREAM_PATH].flatMap((path) =>
      Array.from({ length: 12 }, () => {
        const { stream, status } = call({ ':path': path, 'grpc-encoding': 'gzip' });
        stream.end(framed(bomb, bomb.length, true));
        return status;
      }),
    );
    const statuses = new Set(await Promise.all(asked));
    clearInterval(timer);
    // RESOURCE_EXHAUSTED; or the messages are zeros, which is no request.
    expect([...statuses].filter((status) => !['0', '3', '8'].includes(status))).toEqual([]);
    expect(statuses).toContain('8');
    // Of 24 messages of 10 MB no more than two at a time, and what the copies of them leave behind.
    expect(most).toBeLessThan(120_000_000);
    const { stream, status } = call({ 'grpc-encoding': 'gzip' });
    const larger = gzipSync(Buffer.alloc(10_000_001));
    stream.end(framed(larger, larger.length, true));
    expect(await status).toBe('8');
    await expectNothingLeft();
  });

  it.each([
    ['gzip', gzipSync, '0'],
    ['deflate', deflateSync, '0'],
    ['gzip', (bytes: Buffer) => gzipSync(bytes).subarray(0, 40), '3'],
    ['gzip', (bytes: Buffer) => bytes, '3'],
    ['br', brotliCompressSync, '12'],
  ])('sends messages in %s is understood, if they are that', async (encoding, compress, wanted) => {
    const { call } = open();
    const { stream, status } = call({ 'grpc-encoding': encoding });
    const message = compress(HUGE_REQUEST);
    stream.end(framed(message, message.length, true));
    expect(await status).toBe(wanted);
    const plain = call({ 'grpc-encoding': encoding });
    plain.stream.end(framed(HUGE_REQUEST));
    expect(await plain.status).toBe('0');
    await expectNothingLeft();
  });

  it('sends nothing is cut off', async () => {
    const socket = connectSocket(port, '127.0.0.1').resume();
    socket.on('error', () => undefined);
    await new Promise((resolve) => socket.on('close', resolve));
  });

  it('opens more connections than there may be gets none', async () => {
    const own = await createServer(served.engine, { http: false, grpc: { port: 0 }, limits: LIMITS });
    const sockets = Array.from({ length: 40 }, () => connectSocket(own.grpc?.port as number, '127.0.0.1'));
    let dropped = 0;
    for (const socket of sockets) {
      ends.push(() => socket.destroy());
      socket.on('error', () => undefined).on('close', () => (dropped += 1));
    }
    ends.push(() => own.close({ graceMs: 0 }));
    await expect.poll(() => dropped, { timeout: 5_000 }).toBeGreaterThanOrEqual(20);
  });

  it('leaves a stream of a handler unread gives its place back', async () => {
    const session = connectHttp2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 1_000 } });
    session.on('error', () => undefined);
    ends.push(() => session.destroy());
    const stream = session.request({
      ':method': 'POST',
      ':path': STREAM_PATH,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('error', () => undefined).pause();
    const text = Buffer.from(JSON.stringify({ to: 100_000, large: 2_000 }));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    const input = { name: 'request', datatype: 'BYTES', shape: [1], parameters: {}, contents: undefined };
    stream.write(
      framed(
        encodeRequest({
          ...{ model_name: 'handler', model_version: '', id: '', outputs: [] },
          parameters: { method: 'count', stream: true },
          inputs: [input],
          raw_input_contents: [Buffer.concat([length, text])],
        }),
      ),
    );
    const ongoing = () => served.engine.deployments.get('handler').ongoing;
    await expect.poll(ongoing, { timeout: 5_000 }).toBe(1);
    await expect.poll(ongoing, { timeout: 10_000 }).toBe(0);
    await expectNothingLeft();
  });

  it('sends very many small elements is refused, whatever tensors they are of', async () => {
    const { Writer } = protobuf;
    const message = Writer.create();
    message.uint32(10).string('times-2');
    for (let tensor = 0; tensor < 8; tensor += 1) {
      const contents = Buffer.alloc(600_000).fill(Buffer.from([66, 0]));
      message
        .uint32(42)
        .fork()
        .uint32(10)
        .string(String(tensor))
        .uint32(18)
        .string('BYTES')
        .uint32(42)
        .bytes(contents)
        .ldelim();
    }
    const { call } = open();
    const { stream, status } = call();
    stream.end(framed(Buffer.from(message.finish())));
    // INVALID_ARGUMENT
    expect(await status).toBe('3');
  });
});

describe('over gRPC a key', () => {
  let keyed: InferenceServer;
  beforeAll(async () => {
    keyed = await createServer(served.engine, {
      http: false,
      grpc: { port: 0 },
      auth: { keys: ['a-right-key'] },
    });
  });
  afterAll(() => keyed.close());

  it('is asked for before the message is received', async () => {
    const { call } = open(65_535, keyed.grpc?.port as number);
    const { stream, status } = call();
    stream.write(framed(Buffer.alloc(10), 5_000_000));
    // UNAUTHENTICATED
    expect(await status).toBe('16');
    const right = call({ authorization: 'Bearer a-right-key' });
    right.stream.end(framed(HUGE_REQUEST));
    expect(await right.status).toBe('0');
  });
});
