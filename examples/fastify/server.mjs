import fastify from 'fastify';
import { createEngine, InfermuxError } from 'infermux';
import { infermuxPlugin } from 'infermux/fastify';

const engine = await createEngine({ models: 'node_modules/infermux/native-models' });
const app = fastify();

/** Statuses of errors; the others are 500. */
const STATUSES = {
  INVALID_ARGUMENT: 400,
  MODEL_NOT_FOUND: 404,
  QUEUE_FULL: 429,
  DEADLINE_EXCEEDED: 504,
  ENGINE_CLOSED: 503,
};

app.setErrorHandler((error, _request, reply) => {
  if (!(error instanceof InfermuxError)) return reply.send(error);
  if (error.retryAfterMs !== undefined) reply.header('retry-after', Math.ceil(error.retryAfterMs / 1_000));
  return reply.code(STATUSES[error.code] ?? 500).send({ error: error.message, code: error.code });
});

/** A signal that is aborted when the client goes away before it has its answer. */
function signalOf(reply) {
  const leaving = new AbortController();
  reply.raw.on('close', () => leaving.abort());
  return leaving.signal;
}

app.post('/digits', async (request, reply) => {
  const image = { dims: [1, 64], data: Float32Array.from(request.body) };
  const { outputs, batchSize, timings } = await engine.infer({
    target: 'digits-cnn',
    feeds: { image },
    signal: signalOf(reply),
    timeoutMs: 1_000,
  });
  const { data } = outputs.probabilities;
  return { digit: data.indexOf(Math.max(...data)), batchSize, ms: timings.totalMs };
});

// All models, over the Open Inference Protocol, and the console.
await app.register(infermuxPlugin, { engine, prefix: '/ml', console: true });

// Requests in progress are answered first.
app.addHook('onClose', () => engine.close());
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close());

await app.listen({ port: Number(process.env.PORT ?? 3000) });
console.log(`http://localhost:${app.server.address().port}`);
