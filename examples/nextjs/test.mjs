import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

const NEXT = 'node_modules/next/dist/bin/next';
const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' };
let [child, address] = [];
before(async () => {
  execFileSync(process.execPath, [NEXT, 'build'], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  child = spawn(process.execPath, [NEXT, 'start', '--port', '0'], { env });
  child.stderr.pipe(process.stderr);
  let text = '';
  for await (const piece of child.stdout) {
    text += piece;
    address = /http:\/\/localhost:\d+/.exec(text)?.[0];
    if (address !== undefined) return;
  }
});
after(async () => {
  child.kill('SIGTERM');
  await once(child, 'exit');
});

const post = (body) => fetch(`${address}/api/digits`, { method: 'POST', body: JSON.stringify(body) });

test('the route reads a digit', async () => {
  const one = Array.from({ length: 64 }, (_, index) => (index % 8 === 4 && index > 8 && index < 56 ? 16 : 0));
  assert.deepEqual(await (await post(one)).json(), { digit: 1 });
});

test('it says what is wrong', async () => {
  assert.equal((await post([1, 2])).status, 400);
});
