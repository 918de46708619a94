// A smoke test of the installed package, for any supported version of Node. Exits with 0 when all is well.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createEngine, InfermuxError } from 'infermux';
import { connect } from 'infermux/client';
import { infermuxPlugin } from 'infermux/fastify';
import { createServer } from 'infermux/server';

const packageFolder = dirname(createRequire(import.meta.url).resolve('infermux/package.json'));
const engine = await createEngine({ models: join(packageFolder, 'native-models'), replicas: 2 });
const image = { dims: [2, 64], data: new Float32Array(128).fill(8) };

const answers = await Promise.all(
  engine.status().models.map(async ({ id }) => {
    const { outputs, model } = await engine.infer({ target: id, feeds: { image } });
    return [model, Object.values(outputs)[0].dims[0]];
  }),
);
assert.equal(answers.length, 12);
assert.ok(answers.every(([, rows]) => rows === 2));

await assert.rejects(
  engine.run('digits-mlp', {}),
  (error) => error instanceof InfermuxError && error.code === 'INVALID_ARGUMENT',
);
await assert.rejects(engine.run('digits-mlp', { image }, { signal: AbortSignal.abort() }), { code: 'CANCELLED' });
// Large tensors, in all three ways.
const rows = 8_192;
const pixels = () => new Float32Array(64 * rows).fill(8);
const allocated = engine.allocate('float32', [rows, 64]);
allocated.data.set(pixels());
const ways = await Promise.all([
  engine.run('digits-mlp', { image: { dims: [rows, 64], data: pixels() } }),
  engine.run('digits-mlp', { image: { dims: [rows, 64], data: pixels() } }, { transfer: true }),
  engine.run('digits-mlp', { image: allocated }),
]);
for (const { probabilities } of ways) assert.deepEqual(probabilities, ways[0].probabilities);
assert.match(await engine.metrics.metrics(), /infermux_router_requests_total/);

// The server and its client, over both protocols.
assert.equal(typeof infermuxPlugin, 'function');
const server = await createServer(engine, { http: { port: 0 }, grpc: { port: 0 } });
for (const address of [`http://127.0.0.1:${server.http.port}`, `grpc://127.0.0.1:${server.grpc.port}`]) {
  const client = await connect(address);
  const { probabilities } = await client.run('digits-mlp', { image: { dims: [rows, 64], data: pixels() } });
  assert.deepEqual(probabilities, ways[0].probabilities);
  await assert.rejects(client.run('none', { image }), { code: 'MODEL_NOT_FOUND' });
  await client.close();
}
await server.close();
await engine.close();

// Replicas that are processes: one dies, and its request goes on.
const isolated = await createEngine({
  models: join(packageFolder, 'native-models'),
  replicas: 1,
  isolation: { kind: 'process', runTimeoutMs: 30_000 },
});
const large = { image: { dims: [rows, 64], data: pixels() } };
assert.deepEqual((await isolated.run('digits-mlp', large)).probabilities, ways[0].probabilities);
process.kill(isolated.status().replicas[0].pid, 'SIGABRT');
assert.deepEqual((await isolated.run('digits-mlp', large)).probabilities, ways[0].probabilities);
await isolated.close();

// Ending in the middle of work must not abort the process.
const last = await createEngine({ models: join(packageFolder, 'native-models'), replicas: 2 });
for (let index = 0; index < 200; index += 1) last.run('digits-cnn', { image }).catch(() => undefined);
setTimeout(() => {
  process.stdout.write(`infermux works on Node ${process.versions.node}\n`);
  process.exit(0);
}, 20);
