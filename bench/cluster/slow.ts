import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startHaproxy } from '../../test/support/cluster/haproxy.js';
import { FixedRate, restSender } from '../../test/support/cluster/load.js';
import { startProgram } from '../../test/support/cluster/programs.js';
import { DIGIT, modelNames, modelsDirectory, type Outcome, outcomeOf, seeded, startCluster, zipf } from './setting.js';

const THROTTLE = fileURLToPath(new URL('../../test/support/cluster/throttle.mjs', import.meta.url));
const NODES = 4;
const MODELS = 16;
/** Far less than they can do: a node that gets less time must not leave more to the others. */
const PER_SECOND = 200;
const CONNECTIONS = 64;
/** What it takes the proxy to notice. */
const SETTLE_MS = 4_000;

/** Four nodes, first all healthy, then with one that has a tenth of its time. */
export async function slowNode(seconds: number): Promise<{ healthy: Outcome; slow: Outcome; shareOfSlow: number }> {
  const cluster = await startCluster(NODES, {
    models: modelsDirectory(MODELS),
    flags: ['--max-models', String(MODELS)],
  });
  const proxy = await startHaproxy(cluster.nodes);
  const sender = restSender(proxy.http, DIGIT, CONNECTIONS);
  const next = zipf(modelNames(MODELS), 1, seeded(1));
  const measure = async () => {
    const loop = new FixedRate(sender.send, PER_SECOND, next);
    await sleep(SETTLE_MS);
    const from = performance.now();
    await sleep(seconds * 1_000);
    return (await loop.stop()).filter(({ began }) => began >= from);
  };
  const healthy = await measure();
  const victim = cluster.nodes[1] as (typeof cluster.nodes)[number];
  const throttle = startProgram([process.execPath, THROTTLE, String(victim.program.pid)]);
  const slow = await measure();
  throttle.kill('SIGTERM');
  await throttle.exited;
  await sender.close();
  await proxy.stop();
  await cluster.close();
  const share = slow.filter(({ node }) => node === victim.http).length / slow.length;
  return { healthy: outcomeOf(healthy), slow: outcomeOf(slow), shareOfSlow: share };
}
