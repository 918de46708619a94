// Starts the server on a free port, and ends it as a process manager does.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

let address;
const child = spawn(process.execPath, ['node_modules/tsx/dist/cli.mjs', 'src/main.ts'], {
  env: { ...process.env, PORT: '0' },
});
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
  const [code, signal] = await once(child, 'exit');
  // Nest ends its process by the signal, when everything is closed.
  assert.ok(code === 0 || code === 143 || signal === 'SIGTERM', `it ended with ${code}, ${signal}`);
});

const one = Array.from({ length: 64 }, (_, index) => (index % 8 === 4 && index > 8 && index < 56 ? 16 : 0));
const post = (body) =>
  fetch(`${address}/digits`, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json' },
  });

test('it reads a digit', async () => {
  assert.deepEqual(await (await post(one)).json(), { digit: 1 });
});

test('it says what is wrong', async () => {
  assert.equal((await post([1, 2, 3])).status, 400);
});
