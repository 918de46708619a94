// Asks an engine for what is too long in every place that takes a list, and prints how each call ended, as JSON.
import { createEngine } from '../../dist/index.js';
import { CHANGING, LONG } from './long-lists.mjs';

const [, , models] = process.argv;
const data = new Float32Array(4);
const dims = [1, 4];
const handler = new URL('./lengths-handler.mjs', import.meta.url);
const engine = await createEngine({ models, replicas: 1, deployments: { app: { handler } } });
const provider = { executionProviders: ['cpu'] };

/** Places that take a list; each is given a list made of a right one. */
const PLACES = {
  'dims of run': (make) => engine.run('times-2', { x: { dims: make(dims), data } }),
  'data of run': (make) => engine.run('times-2', { x: { dims, data: make([1, 2, 3, 4]) } }),
  'strings of run': (make) => engine.run('words', { in0: { dims: [1, 2], data: make(['a', 'b']) } }),
  'dims of infer': (make) => engine.infer({ target: 'times-2', feeds: { x: { dims: make(dims), data } } }),
  'outputs of run': (make) => engine.run('times-2', { x: { dims, data } }, { outputs: make(['y']) }),
  'outputs of infer': (make) => engine.infer({ target: 'times-2', feeds: { x: { dims, data } }, outputs: make(['y']) }),
  "dims in a handler's run": (_, kind) => engine.run('app', { what: 'dims', kind }),
  "outputs in a handler's run": (_, kind) => engine.run('app', { what: 'outputs', kind }),
  "data in a handler's model": (_, kind) => engine.run('app', { what: 'data', kind }),
  'executionProviders of createEngine': (make) => made({ replicas: 1, session: { executionProviders: make(['cpu']) } }),
  'labels of createEngine': (make) => made({ replicas: 1, labels: make([{ a: 'b' }]) }),
  'versions of createEngine': (make) => made({ models, replicas: 0, repository: { versions: make([1]) } }),
};

/** Places whose lists are cloned, which no proxy can be: there only these kinds tell. */
const CLONED = {
  'labels of a deployment': (make) => engine.deployments.create('more', { replicas: 0, labels: make([{ a: 'b' }]) }),
  'devices of a deployment': (make) => engine.deployments.create('more', { replicas: 0, devices: make([0]) }),
  'session of a deployment': (make) =>
    engine.deployments.create('more', { replicas: 0, session: { ...provider, extra: { list: make(['a']) } } }),
  'userConfig of a deployment': (make) => engine.deployments.create('more', { handler, userConfig: make(['a']) }),
  'userConfig of createEngine': (make) => made({ replicas: 0, handler, userConfig: { list: make(['a']) } }),
};

async function made(options) {
  const other = await createEngine(options);
  await other.close();
}

const long = Buffer.alloc(100_000_000, 'x').toString('latin1');
const huge = 1n << 67_108_864n;
const many = (value, count = 20_000) => Object.fromEntries(Array.from({ length: count }, (_, at) => [`k${at}`, value]));

const OTHERS = {
  'dims whose product is too large': () => engine.run('times-2', { x: { dims: [2 ** 31 - 1, 2 ** 31 - 1], data } }),
  'dims whose product is no number': () =>
    engine.run('times-2', { x: { dims: new Array(64).fill(2 ** 31 - 1), data } }),
  'a view that says it is longer': () =>
    engine.run('times-2', {
      x: { dims: [1, 1e9], data: Object.defineProperty(data.slice(), 'length', { value: 1e9 }) },
    }),
  'feeds with very many inputs': () => engine.run('times-2', many({ dims, data })),
  'a long text as dims': () => engine.run('times-2', { x: { dims: new String(long), data } }),
  'a long name of an input': () => engine.run('times-2', { [long]: { dims: 1, data } }),
  'a long target': () => engine.run(long, { x: { dims, data } }),
  'a long shardKey': () => engine.run('times-2', { x: { dims, data } }, { shardKey: long }),
  'many labels': () => engine.run('times-2', { x: { dims, data } }, { labels: many('a') }),
  'a long id to load': () => engine.models.load(long),
  'a long id to inspect': () => engine.models.inspect(long),
  'a typed array as feeds': () => engine.run('times-2', new Float32Array(1e8)),
  'a typed array as files': () => engine.models.deploy('new', new Uint8Array(1e8)),
  'a long path in a deploy': () => engine.models.deploy('new', { [`${'a/'.repeat(4e6)}model.onnx`]: 'a' }),
  'a long path of a handler': () => engine.deployments.create('more', { replicas: 0, handler: long }),
  'a long path of models': () => made({ models: long, replicas: 0 }),
  'a long key': () => engine.run('times-2', { x: { dims, data } }, { labels: { [long]: 1 } }),
  'a huge bigint': () => engine.run('times-2', { x: { dims, data } }, { priority: huge }),
  'a huge bigint in dims': () => engine.run('times-2', { x: { dims: [huge], data } }),
  'a huge bigint in an option': () => engine.models.load('times-2', { replicas: { huge } }),
  'many files to deploy': () => engine.models.deploy('new', many('text')),
  'a long model.json': () => engine.models.deploy('new', { 'model.onnx': 'a', 'model.json': ' '.repeat(20_000_000) }),
  'a long name of an endpoint': () => engine.endpoints.set(long, { traffic: { 'times-2': 1 } }),
  'many targets': () => engine.endpoints.set('e', { traffic: many(1 / 20_000) }),
  'a long name of a deployment': () => engine.deployments.create(long),
  'a long id of createEngine': () => made({ replicas: 0, models: { [long]: new Uint8Array(8) } }),
};

const HANDLED = {
  'a huge message of a handler': () => engine.run('app', { what: 'huge message' }),
  'causes in a circle of a handler': () => engine.run('app', { what: 'causes in a circle' }),
  'a message that steers the terminal': () => engine.run('app', { what: 'steers' }),
};

async function report(group, name, call) {
  const startedAt = performance.now();
  const { code, message, cause } = await (async () => call())().then(
    () => ({ code: 'answered', message: '' }),
    (error) => error,
  );
  const ms = performance.now() - startedAt;
  const texts = [message, cause?.message, cause?.stack].filter((text) =>
    group !== 'handled' ? text === message : text,
  );
  console.log(
    JSON.stringify({
      group,
      name,
      code,
      message: message.slice(0, 300),
      ms,
      texts: texts.map(String).map((text) => text.slice(0, 20_000)),
    }),
  );
}

// Both threads have run before anything is timed.
await engine.run('times-2', { x: { dims, data } });
await engine.run('app', { what: 'dims', kind: 'that grows' });
for (const [place, ask] of Object.entries(PLACES)) {
  for (const [kind, make] of Object.entries(LONG)) await report('long', `${place}: ${kind}`, () => ask(make, kind));
  for (const [kind, make] of Object.entries(CHANGING))
    await report('changing', `${place}: ${kind}`, () => ask(make, kind));
}
for (const [place, ask] of Object.entries(CLONED)) {
  for (const kind of ['sparse', 'of 2 million']) await report('long', `${place}: ${kind}`, () => ask(LONG[kind]));
}
for (const [name, call] of Object.entries(OTHERS)) await report('long', name, call);
for (const [name, call] of Object.entries(HANDLED)) await report('handled', name, call);
const { y } = await engine.run('times-2', { x: { dims, data: Float32Array.of(3, 0, 0, 0) } });
console.log(JSON.stringify({ group: 'alive', name: 'the engine', code: y.data[0] }));
await engine.close();
