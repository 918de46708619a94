// The server, in a process of its own. Tells its parent the ports, and on request the longest block of its event loop and
// its memory.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createEngine } from '../../dist/index.js';
import { createServer } from '../../dist/server/index.js';

const engine = await createEngine({ models: process.argv[2], replicas: 2 });
const server = await createServer(engine, {
  http: { port: 0 },
  grpc: { port: 0 },
  limits: { keepAliveTimeoutMs: 600_000, headersTimeoutMs: 600_000, requestTimeoutMs: 600_000 },
});
const delay = monitorEventLoopDelay({ resolution: 1 });

process.on('message', (asked) => {
  // Its timer costs what others are measured by; and the collection is no block of the server's own.
  if (asked === 'watch') {
    delay.reset();
    delay.enable();
    process.send({});
  } else if (asked === 'block') {
    delay.disable();
    // The histogram holds whole intervals between two ticks of a millisecond.
    process.send({ blockMs: Math.max(0, delay.max / 1e6 - 1) });
  } else {
    globalThis.gc?.();
    process.send({ rss: process.memoryUsage.rss() });
  }
});
process.on('disconnect', () => process.exit(0));
process.send({ http: server.http.port, grpc: server.grpc.port });
