// One case of the bench of finders, in a process of its own.
import { createEngine } from '../../dist/index.js';
import { hashOf } from './models.mjs';

const { kind, base, cache, models, padding = 0, perSecond, warmUpSeconds, seconds, seed } = JSON.parse(process.argv[2]);
const image = { dims: [1, 64], data: new Float32Array(64).fill(3) };
/** With it, a model in the cache is not asked for again. */
const hash = (id) => ({ sha256: hashOf(Number(id.slice(1)), padding) });
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const start = (options) =>
  createEngine({
    finder: { find: (id) => ({ url: `${base}/${id}`, allowHttp: true, ...(kind === 'traffic' && hash(id)) }) },
    modelCache: { directory: cache, maxBytes: 2 ** 34 },
    ...options,
  });

/** Numbers uniform in [0, 1): Marsaglia's xorshift. */
function random(state = seed) {
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Names of models by Zipf's law: the model of rank k is asked for 1 / k as often as the first. */
function zipf(next) {
  const sums = [];
  for (let rank = 1; rank <= models; rank += 1) sums.push((sums.at(-1) ?? 0) + 1 / rank);
  return () => {
    const wanted = next() * sums.at(-1);
    let [low, high] = [0, models - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sums[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return `m${low}`;
  };
}

/** Requests at random times for models by Zipf's law. */
async function traffic() {
  const engine = await start({ replicas: 2, maxModelsPerReplica: 50 });
  const uniform = random();
  const draw = zipf(uniform);
  const [warm, cold] = [[], []];
  const answers = [];
  const isLoaded = (id) => {
    try {
      return engine.models.get(id).replicas.some(({ state }) => state === 'loaded');
    } catch {
      return false;
    }
  };
  const startedAt = performance.now();
  const endsAt = startedAt + 1_000 * (warmUpSeconds + seconds);
  for (let next = startedAt, now = startedAt; now < endsAt; now = performance.now()) {
    for (; next <= now; next += (-1_000 * Math.log(1 - uniform())) / perSecond) {
      const id = draw();
      const list = now < startedAt + 1_000 * warmUpSeconds ? [] : isLoaded(id) ? warm : cold;
      const askedAt = performance.now();
      answers.push(engine.run(id, { image }).then(() => list.push(performance.now() - askedAt)));
    }
    await after(1);
  }
  await Promise.all(answers);
  const found = engine.models.list().length;
  await engine.close();
  return { warm: of(warm), cold: of(cold), found };
}

function of(times) {
  times.sort((one, other) => one - other);
  const at = (fraction) => times[Math.floor(fraction * times.length)];
  return { count: times.length, p50: at(0.5), p99: at(0.99) };
}

/** The highest resident memory while models are downloaded, beyond what there was before. */
async function memory() {
  const engine = await start({ replicas: 1 });
  const find = async (first, last) => {
    const ids = Array.from({ length: last - first }, (_, index) => `m${first + index}`);
    await Promise.all(ids.map((id) => engine.models.find(id)));
  };
  await engine.run('m0', { image });
  await find(1, 3);
  await after(500);
  const before = process.memoryUsage.rss();
  let [most, isOver] = [before, false];
  const watch = async () => {
    for (; !isOver; await after(5)) most = Math.max(most, process.memoryUsage.rss());
  };
  const watching = watch();
  const startedAt = performance.now();
  await find(3, models + 3);
  const downloadMs = performance.now() - startedAt;
  isOver = true;
  await watching;
  await engine.close();
  return { bytes: most - before, downloadMs };
}

const outcome = kind === 'traffic' ? await traffic() : await memory();
process.stdout.write(JSON.stringify(outcome));
