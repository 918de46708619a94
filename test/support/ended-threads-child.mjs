// Ends threads of replicas while they start, many times over.
import { PooledThread } from '../../dist/replicas/threads/pooled-thread.js';
import { replicaEntry } from '../../dist/replicas/threads/replica-entry.js';

const stayUp = setInterval(() => undefined, 1_000);
const observer = { received: () => undefined, unreadable: () => undefined };

async function startAndEnd() {
  const thread = new PooledThread(replicaEntry(), {}, undefined, observer);
  thread.post(undefined);
  await new Promise((resolve) => setTimeout(resolve, 30 + 60 * Math.random()));
  thread.terminate();
  await thread.ended;
}

for (let round = 0; round < 30; round += 1) await Promise.all([startAndEnd(), startAndEnd()]);
clearInterval(stayUp);
