import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, it } from 'vitest';
import { directory } from '../../support/directories.js';
import { ModelServer } from '../../support/model-server.js';
import { scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

const CHILD = fileURLToPath(new URL('../../support/find-child.mjs', import.meta.url));
/** A model with so much after it that a download takes a while: ONNX skips fields that it does not know. */
const large = Buffer.concat([scaleModel(2), unknownField(2_000_000)]);

let server: ModelServer;
let cache: string;

beforeEach(async () => {
  server = await ModelServer.start();
  cache = join(directory(), 'cache');
  return () => server.close();
});

/** Field 15 of a message, of so many bytes. */
function unknownField(bytes: number): Buffer {
  const length: number[] = [];
  for (let left = bytes; ; left >>>= 7) {
    length.push(left > 127 ? (left & 127) | 128 : left);
    if (left <= 127) break;
  }
  return Buffer.concat([Buffer.from([(15 << 3) | 2, ...length]), Buffer.alloc(bytes, 7)]);
}

function start(): { child: ChildProcess; output: Promise<string> } {
  const child = spawn(process.execPath, [CHILD, server.url('m').href, cache], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout?.on('data', (piece) => {
    text += piece;
  });
  return { child, output: once(child, 'close').then(() => text) };
}

/** Bytes of what is not whole yet. */
const bytesOfParts = () => {
  const parts = existsSync(cache) ? readdirSync(cache, { recursive: true, encoding: 'utf8' }) : [];
  const sizes = parts
    .filter((name) => name.endsWith('.onnx.infermux-part'))
    .map((name) => statSync(join(cache, name)).size);
  return sizes.reduce((sum, size) => sum + size, 0);
};
const entries = () => readdirSync(cache).filter((name) => /^[\da-f]{64}$/.test(name));

describe('a download', () => {
  it('that is killed in the middle leaves no model, and goes on in the next process', async () => {
    const file = server.serve('m', large, { pieceBytes: 50_000, pieceMs: 5 });
    const { child, output } = start();
    await until(() => bytesOfParts() > 300_000);
    child.kill('SIGKILL');
    expect(await output).toBe('ready\n');
    expect(entries()).toEqual([]);
    const { sent } = server;
    Object.assign(file, { pieceBytes: undefined, pieceMs: undefined });
    expect(await start().output).toBe('ready\n10\n');
    expect(server.requests.at(-1)).toMatch(/^GET \/m bytes=\d+-$/);
    expect(server.sent - sent).toBeLessThan(large.length);
    expect(entries()).toHaveLength(1);
    // Nothing of the first process is left.
    expect(readdirSync(cache).filter((name) => name.includes('part') || name.endsWith('.lock'))).toEqual([]);
  }, 60_000);

  it('is made once by processes that want the model at the same time', async () => {
    server.serve('m', large, { pieceBytes: 200_000, pieceMs: 20 });
    const outputs = [start(), start(), start()].map(({ output }) => output);
    expect(await Promise.all(outputs)).toEqual(Array(3).fill('ready\n10\n'));
    expect(server.sent).toBe(large.length);
  }, 60_000);
});
