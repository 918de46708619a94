// Ends a process while threads of its engines are stuck.
// Arguments: directory with the models endless-run and endless-load; what is stuck: one of these models, or a place in
// a handler and a way (see stuck-handler.mjs); how the process ends; number of engines; of replicas in each.
// Writes lines to stdout: "ending" just before the end begins, and what its listeners have to say.
import { once } from 'node:events';
import { mkdtempSync, statSync, write, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, Worker } from 'node:worker_threads';
import { createEngine } from '../../dist/index.js';

const [directory, what, how, ...counts] = process.argv.slice(2);
const [engineCount, replicas] = counts.map(Number);
const handler = new URL('./stuck-handler.mjs', import.meta.url);
const [place] = what.split(' ');
const gracefulShutdownTimeoutMs = 100;
const engines = [];
const abandoned = new AbortController();
const say = (line) => writeSync(1, `${line}\n`);

/** Resolves when a model has taken half a second of the processor: only native code takes so long. */
async function stickInModel() {
  const engine = await createEngine({ models: directory, replicas: 1, gracefulShutdownTimeoutMs });
  engines.push(engine);
  const feeds = { x: { dims: [1], data: Float32Array.of(1) } };
  engine.run(what, feeds, { signal: abandoned.signal }).catch(() => undefined);
  const { user } = process.cpuUsage();
  while (process.cpuUsage().user < user + 500_000) await sleep(10);
}

/** Resolves when all threads are stuck: each adds a byte to a file. */
async function stickInHandler() {
  process.env.STUCK_IN = what;
  process.env.STUCK_FILE = join(mkdtempSync(join(tmpdir(), 'infermux-stuck-')), 'stuck');
  writeFileSync(process.env.STUCK_FILE, '');
  for (let index = 0; index < engineCount; index += 1) void startHandler();
  while (statSync(process.env.STUCK_FILE).size < engineCount * replicas) await sleep(5);
}

async function startHandler() {
  const healthCheck = place === 'checkHealth' ? { periodMs: 50, timeoutMs: 600_000, failures: 1 } : {};
  const app = { handler, replicas, gracefulShutdownTimeoutMs, healthCheck };
  // Does not resolve when the import is stuck.
  const engine = await createEngine({ replicas: 0, gracefulShutdownTimeoutMs, deployments: { app } });
  engines.push(engine);
  if (place === 'reconfigure') void engine.deployments.update('app', { userConfig: 1 });
  if (place !== 'handle' && place !== 'loadModel') return;
  for (let request = 0; request < replicas; request += 1) {
    engine.run('app', request, { signal: abandoned.signal }).catch(() => undefined);
  }
}

async function end() {
  // Requests would keep the process up.
  abandoned.abort();
  switch (how) {
    case 'exit':
    case 'worker':
      exit();
      break;
    case 'uncaught':
      setImmediate(() => {
        say('ending');
        throw new Error('nobody catches this');
      });
      break;
    case 'sigterm':
      process.on('SIGTERM', exit);
      setInterval(() => undefined, 1_000);
      process.kill(process.pid, 'SIGTERM');
      break;
    case 'destroy':
      await Promise.all(engines.map((engine) => engine.destroy()));
      leave();
      break;
    case 'close':
      await Promise.all(engines.map((engine) => engine.close({ graceMs: 10 })));
      leave();
      break;
    case 'leave':
      leave();
      break;
    case 'listeners':
      process.on('exit', () => {
        throw new Error('a listener throws');
      });
      process.on('exit', () => process.exit(9));
      process.once('exit', () => say('the last listener'));
      exit();
      break;
    case 'full-stderr':
      // It blocks, but not this thread.
      write(2, Buffer.alloc(2 ** 22), () => undefined);
      exit();
      break;
    default:
      throw new Error(`unknown ending ${how}`);
  }
}

function exit() {
  say('ending');
  process.exit(7);
}

/** Lets the process end, because there is nothing more to do. */
function leave() {
  process.exitCode = 7;
  process.once('beforeExit', () => say('ending'));
}

if (isMainThread && how === 'worker') {
  const worker = new Worker(new URL(import.meta.url), { argv: process.argv.slice(2) });
  const [code] = await once(worker, 'exit');
  say(`the worker ended with ${code}`);
} else {
  process.on('exit', (code) => say(`listener got ${code}`));
  await (what.startsWith('endless') ? stickInModel() : stickInHandler());
  await end();
}
