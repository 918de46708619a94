/** What the console costs: the thread that it watches, and the browser that draws it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { createEngine } from '../../dist/index.js';
import { createServer } from '../../dist/server/index.js';

const BROWSER = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const REPLICAS = 8;
const WINDOW_MS = 4_000;
const FRAMES_MS = 10_000;
/** A reader in a process of its own, so that this thread does nothing for it. */
const READER = 'fetch(process.argv[1]).then(async ({ body }) => { for await (const _ of body) continue; })';
const COUNT_FRAMES = `new Promise((resolve) => {
  const began = performance.now();
  let frames = 0;
  const step = (now) => {
    frames += 1;
    if (now - began < ${FRAMES_MS}) requestAnimationFrame(step);
    else resolve((1_000 * frames) / (now - began));
  };
  requestAnimationFrame(step);
})`;

export interface ConsoleCost {
  /** Share of the calling thread's time that an open page takes, in per cent, by round. */
  readonly percent: readonly number[];
  /** Frames per second of a browser that shows all sessions; none where there is no browser. */
  readonly frames: readonly number[];
}

/** Measures with twelve models, each in every replica. */
export async function measureConsole(models: URL, rounds: number): Promise<ConsoleCost> {
  const engine = await createEngine({ models, replicas: REPLICAS, maxModelsPerReplica: 12 });
  const server = await createServer(engine, { http: { port: 0 }, grpc: false });
  const address = `http://127.0.0.1:${server.http?.port}/console`;
  try {
    for (const { id } of engine.models.list()) {
      await engine.models.load(id, { replicas: 'all' });
      await engine.run(id, { image: { dims: [1, 64], data: new Float32Array(64) } });
    }
    const percent: number[] = [];
    await read(address, () => sleep(WINDOW_MS));
    for (let round = 0; round < rounds; round += 1) {
      const quiet = await busyPercent();
      percent.push((await read(address, busyPercent)) - quiet);
    }
    return { percent, frames: BROWSER === undefined ? [] : await countFrames(BROWSER, address) };
  } finally {
    await server.close({ graceMs: 100 });
    await engine.close();
  }
}

/** Does the work while a page is open. */
async function read<T>(address: string, work: () => Promise<T>): Promise<T> {
  const child: ChildProcess = spawn(process.execPath, ['-e', READER, `${address}/api/events`], { stdio: 'ignore' });
  try {
    await sleep(WINDOW_MS / 4);
    return await work();
  } finally {
    child.kill();
  }
}

async function busyPercent(): Promise<number> {
  const before = performance.eventLoopUtilization();
  await sleep(WINDOW_MS);
  return 100 * performance.eventLoopUtilization(before).utilization;
}

async function countFrames(executablePath: string, address: string): Promise<number[]> {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  try {
    const page = await browser.newPage();
    const frames: number[] = [];
    for (const part of ['#/', '#/replicas']) {
      await page.goto(`${address}/${part}`);
      await page.waitForSelector('.good');
      frames.push(await page.evaluate<number>(COUNT_FRAMES));
    }
    return frames;
  } finally {
    await browser.close();
  }
}
