// Starts the server on a free port, and ends it as a process manager does.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';

let address;
const child = spawn(process.execPath, ['server.mjs'], { env: { ...process.env, PORT: '0' } });
before(async () => {
  child.stderr.pipe(process.stderr);
  for await (const text of child.stdout) {
    address = /http:\/\/localhost:\d+/.exec(String(text))?.[0];
    if (address !== undefined) return;
  }
});
after(async () => {
  if (child.exitCode !== null) return;
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

const one = Array.from({ length: 64 }, (_, index) => (index % 8 === 4 && index > 8 && index < 56 ? 16 : 0));
const post = (body) =>
  fetch(`${address}/digits`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
  });

test('it reads a digit', async () => {
  assert.equal((await (await post(one)).json()).digit, 1);
});

test('it says what is wrong', async () => {
  const response = await post([1, 2, 3]);
  assert.equal(response.status, 400);
  assert.equal((await response.json()).code, 'INVALID_ARGUMENT');
});

test('it has the protocol, and the console', async () => {
  assert.equal((await (await fetch(`${address}/ml/v2/models/digits-cnn`)).json()).name, 'digits-cnn');
  assert.match(await (await fetch(`${address}/ml/console/`)).text(), /<title>infermux/);
});

/** Sends a request, and leaves before there is an answer. */
async function leave() {
  const { hostname, port } = new URL(address);
  const socket = connect(Number(port), hostname);
  const body = JSON.stringify(one);
  const head = ['POST /digits HTTP/1.1', 'host: localhost', 'content-type: application/json'];
  socket.write([...head, `content-length: ${body.length}`, '', body].join('\r\n'), () => socket.destroy());
  await once(socket, 'close');
}

test('a request whose client leaves is cancelled, and others are answered', async () => {
  const isCancelled = async () => /code="CANCELLED".* [1-9]/.test(await (await fetch(`${address}/ml/metrics`)).text());
  assert.equal(await isCancelled(), false);
  // A request may be answered before the server hears that its client has left.
  for (let tries = 0; tries < 200 && !(await isCancelled()); tries += 1) await leave();
  assert.equal(await isCancelled(), true);
  assert.equal((await post(one)).status, 200);
});
