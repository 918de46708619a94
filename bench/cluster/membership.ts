import { fileURLToPath } from 'node:url';
import { startHaproxy } from '../../test/support/cluster/haproxy.js';
import { createNetwork } from '../../test/support/cluster/hosts.js';
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
  /** From the signal to end until the last request that it got. */
  readonly leaveMs: number;
}

/** Nodes that announce themselves, behind a HAProxy that is kept to them: one leaves and comes back, under load. */
export async function membership(times: number): Promise<readonly MembershipOutcome[]> {
  const network = createNetwork(NODES);
  const nats = await NatsServer.start(network.own);
  const proxy = await startHaproxy([], undefined, { slots: 8 });
  const config = ['cluster', 'config', 'haproxy', '--nats', nats.url, '--socket', proxy.socket];
  const follower = startProgram([process.execPath, CLI, ...config]);
  const flags = ['--nats', nats.url, '--drain-delay', '1', '--max-models', String(MODELS)];
  const models = modelsDirectory(MODELS);
  const nodes = await Promise.all(network.hosts.map((host) => Node.start(host, { models, flags })));
  const sender = restSender(proxy.http, DIGIT, CALLERS);
  await until(async () => (await sender.send('m1')).failure === undefined, 'the proxy');
  const loop = new ClosedLoop(sender.send, CALLERS, zipf(modelNames(MODELS), 0.5, seeded(1)));
  const moving = nodes[1] as Node;
  const answersOf = (from: number) => loop.answers.filter(({ node, began }) => node === moving.http && began >= from);
  const outcomes: MembershipOutcome[] = [];
  try {
    for (let time = 0; time < times; time += 1) {
      await until(() => answersOf(performance.now() - 1_000).length > 5, 'requests for the node');
      const before = loop.answers.length;
      const leftAt = performance.now();
      await moving.stop();
      const leaveMs = Math.max(0, ...answersOf(leftAt).map(({ began }) => began - leftAt));
      await moving.start();
      const readyAt = performance.now();
      await until(() => answersOf(readyAt).length > 0, 'requests for the node');
      const joinMs = Math.min(...answersOf(readyAt).map(({ began }) => began - readyAt));
      outcomes.push({ ...outcomeOf(loop.answers.slice(before)), joinMs, leaveMs });
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
