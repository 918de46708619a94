import { fileURLToPath } from 'node:url';
import { readServers } from '../../dist/cluster/proxies/haproxy-servers.js';
import { type Haproxy, startHaproxy } from '../../test/support/cluster/haproxy.js';
import { createNetwork, type Host } from '../../test/support/cluster/hosts.js';
import { ClosedLoop, restSender } from '../../test/support/cluster/load.js';
import { NatsServer } from '../../test/support/cluster/nats.js';
import { Node } from '../../test/support/cluster/nodes.js';
import { startProgram, until } from '../../test/support/cluster/programs.js';
import { DIGIT, modelNames, modelsDirectory, type Outcome, outcomeOf, seeded, zipf } from './setting.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const NODES = 3;
const MODELS = 48;
const CALLERS = 8;

export interface MembershipOutcome extends Outcome {
  /** From the moment when the node is ready until it has its first request. */
  readonly joinMs: number;
  /** From the signal to end until HAProxy knows, and the node has had its last request. */
  readonly leaveMs: number;
}

/** Nodes that announce themselves, behind a HAProxy that is kept to them: one comes, and another one leaves, under load. */
export async function membership(times: number): Promise<readonly MembershipOutcome[]> {
  // Each node that comes has an address that HAProxy has not had: by probes alone none would get anything.
  const network = createNetwork(NODES + times);
  const nats = await NatsServer.start(network.own);
  const proxy = await startHaproxy([], undefined, { slots: 8 });
  const config = ['cluster', 'config', 'haproxy', '--nats', nats.url, '--socket', proxy.socket];
  const follower = startProgram([process.execPath, CLI, ...config]);
  const flags = ['--nats', nats.url, '--drain-delay', '1', '--max-models', String(MODELS)];
  const models = modelsDirectory(MODELS);
  const start = (host: Host) => Node.start(host, { models, flags });
  const nodes = await Promise.all(network.hosts.slice(0, NODES).map(start));
  const sender = restSender(proxy.http, DIGIT, CALLERS);
  await until(async () => (await sender.send('m1')).failure === undefined, 'the proxy');
  const loop = new ClosedLoop(sender.send, CALLERS, zipf(modelNames(MODELS), 0.5, seeded(1)));
  const answersOf = (of: Node, from: number) =>
    loop.answers.filter(({ node, began }) => node === of.http && began >= from).map(({ began }) => began - from);
  const outcomes: MembershipOutcome[] = [];
  try {
    for (const host of network.hosts.slice(NODES)) {
      const leaving = nodes.shift() as Node;
      await until(() => answersOf(leaving, performance.now() - 1_000).length > 5, 'requests for the node that leaves');
      const before = loop.answers.length;
      const leftAt = performance.now();
      const gone = leaving.stop();
      await until(async () => !(await enabled(proxy)).includes(leaving.http), 'the word to HAProxy');
      const toldMs = performance.now() - leftAt;
      await gone;
      const leaveMs = Math.max(toldMs, ...answersOf(leaving, leftAt));
      const coming = await start(host);
      nodes.push(coming);
      const readyAt = performance.now();
      await until(() => answersOf(coming, readyAt).length > 0, 'requests for the node that comes');
      outcomes.push({
        ...outcomeOf(loop.answers.slice(before)),
        joinMs: Math.min(...answersOf(coming, readyAt)),
        leaveMs,
      });
    }
    return outcomes;
  } finally {
    await loop.stop();
    await sender.close();
    follower.kill('SIGTERM');
    await Promise.all([follower.exited, proxy.stop(), ...nodes.map((node) => node.stop())]);
    await nats.stop();
    network.remove();
  }
}

/** The addresses to which HAProxy may send requests, whether they answer probes or not. */
async function enabled(proxy: Haproxy): Promise<string[]> {
  const servers = readServers(await proxy.ask('show servers state'));
  return servers
    .filter(({ backend, isDisabled }) => backend === 'rest' && !isDisabled)
    .map(({ address, port }) => `${address}:${port}`);
}
