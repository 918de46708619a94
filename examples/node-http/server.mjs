// POST /digits with 64 numbers, a picture of 8×8 pixels, as JSON. Answers with the digit.
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { createEngine, InfermuxError } from 'infermux';

const engine = await createEngine({ models: 'node_modules/infermux/native-models' });

const server = createServer(async (request, response) => {
  const leaving = new AbortController();
  response.on('close', () => leaving.abort()); // nobody waits any more: the request leaves the queue
  try {
    const pixels = Float32Array.from(await json(request));
    const image = { dims: [1, 64], data: pixels };
    const { probabilities } = await engine.run('digits-cnn', { image }, { signal: leaving.signal, timeoutMs: 1_000 });
    send(response, 200, { digit: probabilities.data.indexOf(Math.max(...probabilities.data)) });
  } catch (error) {
    const isBusy = error instanceof InfermuxError && error.retryable;
    send(response, isBusy ? 503 : 400, { error: error.message });
  }
});

function send(response, status, value) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

server.listen(Number(process.env.PORT ?? 3000), () => console.log(`http://localhost:${server.address().port}`));

process.once('SIGTERM', () => {
  server.close(() => engine.close()); // first the requests under way, then the threads
});
