// Sends requests at random moments of a given rate, whether or not earlier ones are answered, as many independent clients
// do. Tells the 99th percentile of the times from the moment at which each was due.
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';

const { url, file, headers, rate, seconds, connections } = JSON.parse(process.argv[2]);
const body = readFileSync(file);
const agent = new Agent({ keepAlive: true, maxSockets: connections });
const WARM_UP_S = 1;

const times = [];
let failed = 0;

function send(dueAt, isMeasured) {
  return new Promise((resolve) => {
    const sent = request(
      url,
      { method: 'POST', agent, headers: { ...headers, 'content-length': body.length } },
      (answer) => {
        answer.resume();
        answer.on('end', () => {
          if (answer.statusCode !== 200) failed += 1;
          if (isMeasured) times.push(performance.now() - dueAt);
          resolve();
        });
      },
    );
    sent.on('error', () => {
      failed += 1;
      resolve();
    });
    sent.end(body);
  });
}

const began = performance.now();
const end = began + 1_000 * (WARM_UP_S + seconds);
const open = [];
let dueAt = began;
while (dueAt < end) {
  // The gaps of independent arrivals are exponential.
  dueAt += (-Math.log(1 - Math.random()) * 1_000) / rate;
  const waitMs = dueAt - performance.now();
  if (waitMs > 0) await new Promise((resolve) => (waitMs > 1 ? setTimeout(resolve, waitMs) : setImmediate(resolve)));
  open.push(send(dueAt, dueAt > began + 1_000 * WARM_UP_S));
}
await Promise.all(open);
agent.destroy();
times.sort((left, right) => left - right);
process.send({ p99Ms: times[Math.floor(times.length * 0.99)], failed });
