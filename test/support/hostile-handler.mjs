// A handler of somebody who means harm, or has no idea. The request says what it does; otherwise it is echoed.
import { spawn } from 'node:child_process';
import { closeSync, writeSync } from 'node:fs';
import { writeFrame } from '../../dist/protocol/frames/frame-writer.js';

export async function handle({ harm, echo, waitMs = 0 }) {
  if (harm === 'garbage') writeSync(4, Buffer.alloc(4_096, 0xee));
  if (harm === 'odd messages') {
    for (const odd of [{ event: { kind: 'model-loading' } }, 5, null, 'text', { id: 1 }, { event: null }]) {
      for (const piece of writeFrame(odd, [0, 0, 0])) writeSync(4, piece);
    }
  }
  if (harm === 'claims') {
    const claim = Buffer.alloc(64);
    claim.writeUInt32LE(0xffffffff, 0);
    writeSync(4, claim);
  }
  if (harm === 'tiny arrays') {
    const claim = Buffer.alloc(32 + 800_000);
    claim.writeUInt32LE(10, 0);
    claim.writeUInt32LE(100_000, 4);
    for (let at = 0; at < claim.length; ) at += writeSync(4, claim, at);
  }
  if (harm === 'close') for (const file of [3, 4, 5]) closeSync(file);
  if (harm === 'spin') for (;;);
  if (harm === 'answers memory') return new SharedArrayBuffer(8);
  if (harm === 'answers code') return new WebAssembly.Module(EMPTY);
  if (harm === 'streams memory') return items();
  if (harm === 'survives') {
    process.once('uncaughtException', () => undefined);
    setImmediate(() => {
      throw new Error('survived');
    });
  }
  if (harm === 'orphan') {
    spawn('sleep', ['30'], { stdio: ['ignore', 'ignore', 'ignore', 3, 4, 5], detached: true, env: {} }).unref();
    process.exit(1);
  }
  await new Promise((resolve) => setTimeout(resolve, waitMs));
  return echo;
}

/** The least WebAssembly. */
const EMPTY = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

async function* items() {
  yield 1;
  yield new SharedArrayBuffer(8);
  yield 3;
}
