// Runs one case of the memory bench in a process of its own, and prints one JSON object.
//   load <model> <private|auto|shared> <store> <replicas> <row>: loads in one replica after the other and runs in each;
//     prints times and private memory, with auto when the sessions share their weights, or after a minute.
//   change <model> <store> <row>: callers ask a model with private weights, and one whose sessions change over to shared
//     ones; prints the 99th percentiles of their times.
//   wide <model> <store> <row>: lets a lone caller run beside two narrow sessions with shared weights until there is a
//     wide one; prints the private memory of a wide session.
//   pictures <model> <run|transfer|allocate> <dims>: 16 callers send pictures in one of the three ways; after
//     many small requests; prints the resident memory after 100 and after 10,000 pictures.
//   run <model> <store> <row>: runs a private and a shared session in turns;
//     prints times and whether the results are the same.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createEngine } from '../../dist/index.js';

const TIMES = 15;
const BATCHES = [1, 16];
/** Rows of a request that is worth several threads. */
const WIDE_ROWS = 16;
/** Callers of the model whose sessions change over, and the longest pause of each after an answer. */
const CHANGE_CALLERS = 2;
const LONGEST_PAUSE_MS = 40;
const CHANGE_WARM_UP_MS = 4_000;
const CHANGE_BEFORE_MS = 10_000;
/** Time after which the sessions of a large model should share its weights. */
const MINUTE_MS = 60_000;
/** Callers of pictures, and requests after which the memory is compared. Small ones come first. */
const CALLERS = 16;
const SMALL_MODEL = fileURLToPath(new URL('../../native-models/digits-mlp/model.onnx', import.meta.url));
const WARM_UP_REQUESTS = 30_000;
const FEW_REQUESTS = 100;
const MANY_REQUESTS = 10_000;
/** Longest time for a wide session to come. */
const WIDE_MS = 20_000;

const [, , what, path, ...rest] = process.argv;
const input = (batch, row) => {
  const dims = [batch, ...row];
  const size = dims.reduce((product, dim) => product * dim, 1);
  return { x: { dims, data: Float32Array.from({ length: size }, (_, index) => Math.sin(index)) } };
};
const median = (values) => [...values].sort((left, right) => left - right)[values.length >> 1];

/** Returns the bytes of pages that no other process has: memory that this process's sessions do not share. */
function privateBytes() {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
  const kilobytes = [...rollup.matchAll(/^Private_(?:Clean|Dirty):\s+(\d+)/gm)].map(([, amount]) => Number(amount));
  return 1024 * kilobytes.reduce((sum, amount) => sum + amount, 0);
}

async function measureLoads([weights, directory, count, row]) {
  const replicas = Number(count);
  const models = { model: path };
  // One request at a time, so that all replicas have work.
  const engine = await createEngine({ models, replicas, weights, weightStore: { directory }, batching: false });
  const bytesBefore = privateBytes();
  const loads = [];
  for (let having = 1; having <= replicas; having += 1) {
    const startedAt = performance.now();
    await engine.models.load('model', { replicas: having });
    loads.push(performance.now() - startedAt);
  }
  if (weights === 'auto' && replicas > 1) await untilShared(engine);
  const dims = JSON.parse(row);
  // One request per replica at once, often enough that each runs. Larger batches would take memory of their own.
  for (let time = 0; time < 5; time += 1) {
    await Promise.all(Array.from({ length: replicas }, () => engine.run('model', input(1, dims))));
  }
  const idle = engine.status().replicas.filter(({ completed }) => completed === 0).length;
  const bytes = privateBytes();
  await engine.close();
  return { loads, bytes, bytesBefore, idle };
}

const sessionsOf = (engine) => engine.status().replicas.flatMap(({ models }) => models);

async function untilShared(engine) {
  const until = performance.now() + MINUTE_MS;
  const areShared = () => sessionsOf(engine).every(({ weights }) => weights === 'shared');
  while (!areShared() && performance.now() < until) await sleep(50);
}

/** Returns the milliseconds of each request of some callers, who pause in between, until they are stopped. */
async function timesOf(engine, feeds, until) {
  const times = [];
  let isOver = false;
  const caller = async () => {
    while (!isOver) {
      const startedAt = performance.now();
      await engine.run('model', feeds);
      times.push(performance.now() - startedAt);
      await sleep(Math.random() * LONGEST_PAUSE_MS);
    }
  };
  const callers = Array.from({ length: CHANGE_CALLERS }, caller);
  await until();
  isOver = true;
  await Promise.all(callers);
  return times;
}

async function measureChange([directory, row]) {
  const feeds = input(1, JSON.parse(row));
  const p99 = (times) => [...times].sort((left, right) => left - right)[Math.floor(0.99 * times.length)];
  const start = async (weights) => {
    const engine = await createEngine({ models: { model: path }, replicas: 4, weights, weightStore: { directory } });
    await engine.models.load('model', { replicas: 'all' });
    return engine;
  };
  const before = await start('private');
  await timesOf(before, feeds, () => sleep(CHANGE_WARM_UP_MS));
  const timesBefore = await timesOf(before, feeds, () => sleep(CHANGE_BEFORE_MS));
  await before.close();
  const engine = await start('auto');
  const timesMeanwhile = await timesOf(engine, feeds, () => untilShared(engine));
  await engine.close();
  return { before: p99(timesBefore), meanwhile: p99(timesMeanwhile), requests: timesMeanwhile.length };
}

/** Returns how many sessions have several threads. */
const wideSessions = (engine) => sessionsOf(engine).filter(({ wide, state }) => wide && state === 'loaded').length;

async function measureWide([directory, row]) {
  // A page that only one session maps counts as private. With two narrow ones no page of theirs does.
  const replicas = 2;
  const engine = await createEngine({
    models: { model: path },
    replicas,
    weights: 'shared',
    weightStore: { directory },
  });
  await engine.models.load('model', { replicas });
  const feeds = input(WIDE_ROWS, JSON.parse(row));
  for (let time = 0; time < TIMES; time += 1) {
    await Promise.all(Array.from({ length: replicas }, () => engine.run('model', feeds)));
  }
  const before = { bytes: privateBytes(), wide: wideSessions(engine) };
  const until = performance.now() + WIDE_MS;
  while (performance.now() < until && wideSessions(engine) === before.wide) await engine.run('model', feeds);
  for (let time = 0; time < TIMES; time += 1) await engine.run('model', feeds);
  const wide = wideSessions(engine) - before.wide;
  const bytes = privateBytes() - before.bytes;
  await engine.close();
  return { wide, bytes };
}

async function compareRuns([directory, row]) {
  const models = { private: { path, weights: 'private' }, shared: { path, weights: 'shared' } };
  const engine = await createEngine({ models, replicas: 1, weightStore: { directory } });
  const result = { same: true, batches: {} };
  for (const batch of BATCHES) {
    const feeds = input(batch, JSON.parse(row));
    const times = { private: [], shared: [] };
    for (let time = 0; time <= TIMES; time += 1) {
      const outputs = {};
      // Another session goes first each time: the second finds the input in the cache.
      for (const target of time % 2 === 0 ? ['private', 'shared'] : ['shared', 'private']) {
        const answer = await engine.infer({ target, feeds });
        outputs[target] = answer.outputs.y.data;
        if (time > 0) times[target].push(answer.timings.runMs);
      }
      result.same &&= outputs.private.every((value, index) => value === outputs.shared[index]);
    }
    result.batches[batch] = { private: median(times.private), shared: median(times.shared) };
  }
  await engine.close();
  return result;
}

async function measurePictures([way, dimsText]) {
  const dims = JSON.parse(dimsText);
  const engine = await createEngine({ models: { model: path, small: SMALL_MODEL }, replicas: 2 });
  await engine.models.load('model', { replicas: 2 });
  // The compiler takes memory, too, whatever the size of requests.
  const image = { dims: [1, 64], data: new Float32Array(64) };
  for (let time = 0; time < WARM_UP_REQUESTS; time += CALLERS) {
    await Promise.all(Array.from({ length: CALLERS }, () => engine.run('small', { image })));
  }
  const size = dims.reduce((product, dim) => product * dim, 1);
  const pictures = Array.from({ length: CALLERS }, (_, caller) => new Float32Array(size).fill(caller));
  const ways = {
    run: (data) => engine.run('model', { x: { dims, data } }),
    transfer: (data) => engine.run('model', { x: { dims, data: data.slice() } }, { transfer: true }),
    allocate: (data) => {
      const x = engine.allocate('float32', dims);
      x.data.set(data);
      return engine.run('model', { x });
    },
  };
  let left = 0;
  const caller = async (data) => {
    while (left > 0) {
      left -= 1;
      await ways[way](data);
    }
  };
  const ask = async (requests) => {
    left = requests;
    await Promise.all(pictures.map(caller));
    return process.memoryUsage.rss();
  };
  const after = [await ask(FEW_REQUESTS), await ask(MANY_REQUESTS - FEW_REQUESTS)];
  await engine.close();
  return after;
}

const cases = {
  load: measureLoads,
  change: measureChange,
  wide: measureWide,
  run: compareRuns,
  pictures: measurePictures,
};
const measured = await cases[what](rest);
process.stdout.write(`${JSON.stringify(measured)}\n`);
