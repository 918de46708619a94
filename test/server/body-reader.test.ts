import { createServer, type IncomingMessage, request as send } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import fastify from 'fastify';
import { afterEach, expect, it } from 'vitest';
import { BodyReader } from '../../dist/server/http/bodies/body-reader.js';

const BODY = Buffer.alloc(300_000, 'abcdefg');
const servers: { close(): unknown }[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

type Listener = Parameters<typeof createServer>[1];

async function listen(listener: NonNullable<Listener>): Promise<number> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as { port: number }).port;
}

/** Reads a body of which others see something, too. */
function readBy(prepare: (request: IncomingMessage) => void): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    void listen((request, response) => {
      prepare(request);
      const body = new BodyReader(request, response, 1_000_000, () => undefined);
      body.all().then((bytes) => {
        response.end();
        resolve(bytes);
      }, reject);
    }).then((port) => send({ port, method: 'POST', headers: { 'content-length': BODY.length } }).end(BODY));
  });
}

it('frees the memory of what it has copied, where nobody else has it', async () => {
  const pieces: Buffer[] = [];
  const read = readBy((request) => {
    const emit = request.emit.bind(request);
    // Sees the pieces without being a listener.
    request.emit = (name: string, ...values: unknown[]) => {
      if (name === 'data') pieces.push(values[0] as Buffer);
      return emit(name, ...values);
    };
  });
  expect((await read).equals(BODY)).toBe(true);
  expect(pieces.length).toBeGreaterThan(1);
  expect(pieces.filter(({ length }) => length > 0).every(({ length }) => length < 16_384)).toBe(true);
});

it('leaves the memory of the pieces to others who listen', async () => {
  const pieces: Buffer[] = [];
  const read = readBy((request) => request.on('data', (piece: Buffer) => pieces.push(piece)));
  expect((await read).equals(BODY)).toBe(true);
  expect(Buffer.concat(pieces).equals(BODY)).toBe(true);
});

it('leaves the memory of the pieces of HTTP/2, which share it', async () => {
  const app = fastify({ http2: true });
  servers.push(app);
  app.addContentTypeParser('*', (_request, _stream, done) => done(null));
  app.post('/', async (request, reply) => {
    const body = new BodyReader(request.raw as never, reply.raw as never, 1_000_000, () => undefined);
    return { isRight: (await body.all()).equals(BODY) };
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const session = connectHttp2(`http://127.0.0.1:${(app.server.address() as { port: number }).port}`);
  const ask = () =>
    new Promise<string>((resolve, reject) => {
      const headers = { ':method': 'POST', ':path': '/', 'content-type': 'a/b', 'content-length': BODY.length };
      const stream = session.request(headers);
      let text = '';
      stream.on('data', (piece) => (text += piece)).on('end', () => resolve(text));
      stream.on('error', reject);
      stream.end(BODY);
    });
  const answers = await Promise.all(Array.from({ length: 16 }, ask));
  expect(new Set(answers)).toStrictEqual(new Set(['{"isRight":true}']));
  session.close();
});

it('leaves the memory of a piece to who listens to one alone', async () => {
  const pieces: Buffer[] = [];
  const read = readBy((request) => request.once('data', (piece: Buffer) => pieces.push(piece)));
  expect((await read).equals(BODY)).toBe(true);
  expect(pieces[0]?.equals(BODY.subarray(0, pieces[0]?.length))).toBe(true);
});

it('leaves the bytes that a test injects to the test', async () => {
  const app = fastify();
  servers.push(app);
  app.addContentTypeParser('*', (_request, _stream, done) => done(null));
  app.post('/', async (request, reply) => {
    const body = new BodyReader(request.raw, reply.raw, 1_000_000, () => undefined);
    return { length: (await body.all()).length };
  });
  const payload = Buffer.from(BODY);
  const answer = await app.inject({ method: 'POST', url: '/', payload, headers: { 'content-type': 'a/b' } });
  expect(answer.json()).toStrictEqual({ length: BODY.length });
  expect(payload.equals(BODY)).toBe(true);
});

it('reads bodies that come together', async () => {
  const bodies: Buffer[] = [];
  const port = await listen((request, response) => {
    const body = new BodyReader(request, response, 1_000_000, () => undefined);
    void body.bytes(100_000).then(async (bytes) => {
      bodies.push(bytes);
      await body.end();
      response.end();
    });
  });
  const socket = connect(port, '127.0.0.1');
  const all = Array.from({ length: 20 }, (_, index) => Buffer.alloc(100_000, index));
  const head = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n';
  socket.write(Buffer.concat(all.flatMap((body) => [Buffer.from(head), body])));
  await expect.poll(() => bodies.length, { timeout: 5_000 }).toBe(all.length);
  expect(bodies.every((body, index) => body.equals(all[index] as Buffer))).toBe(true);
  socket.destroy();
});
