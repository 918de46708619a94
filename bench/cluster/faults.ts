import { setTimeout as sleep } from 'node:timers/promises';
import { type Haproxy, serversUp, startHaproxy } from '../../test/support/cluster/haproxy.js';
import { type Answer, FixedRate, grpcSender, isBrokenOff, restSender } from '../../test/support/cluster/load.js';
import type { Node } from '../../test/support/cluster/nodes.js';
import { until } from '../../test/support/cluster/programs.js';
import {
  type Cluster,
  DIGIT,
  modelNames,
  modelsDirectory,
  type Outcome,
  outcomeOf,
  seeded,
  startCluster,
  zipf,
} from './setting.js';

const MODELS = 16;
/** Of each protocol: far less than the nodes can do, so that one that is gone takes nothing off the others. */
const PER_SECOND = 200;
const CONNECTIONS = 64;
const NODES = 4;
/** What `infermux serve` needs to go out of rotation before it takes no more connections. */
const DRAIN = ['--drain-delay', '2', '--max-models', String(MODELS)];

export interface BothOutcomes {
  readonly rest: Outcome;
  readonly grpc: Outcome;
}

/** Four nodes behind HAProxy, under load by both protocols. */
export async function underLoad<T>(
  act: (scene: {
    cluster: Cluster;
    proxy: Haproxy;
    now: () => { rest: readonly Answer[]; grpc: readonly Answer[] };
  }) => Promise<T>,
): Promise<{ readonly result: T; readonly rest: readonly Answer[]; readonly grpc: readonly Answer[] }> {
  const cluster = await startCluster(NODES, { models: modelsDirectory(MODELS), flags: DRAIN });
  const proxy = await startHaproxy(cluster.nodes);
  const next = zipf(modelNames(MODELS), 1, seeded(1));
  const senders = [restSender(proxy.http, DIGIT, CONNECTIONS), grpcSender(proxy.grpc, DIGIT)] as const;
  const [rest, grpc] = senders.map(({ send }) => new FixedRate(send, PER_SECOND, next)) as [FixedRate, FixedRate];
  try {
    await until(() => rest.answers.length > 500 && grpc.answers.length > 500, 'the load');
    const result = await act({ cluster, proxy, now: () => ({ rest: rest.answers, grpc: grpc.answers }) });
    return { result, rest: await rest.stop(), grpc: await grpc.stop() };
  } finally {
    await Promise.all([rest.stop(), grpc.stop()]);
    await Promise.all(senders.map((sender) => sender.close()));
    await proxy.stop();
    await cluster.close();
  }
}

/** Ends each node with SIGTERM, and starts it again, one after the other. */
export async function rollingRestart(times: number): Promise<BothOutcomes> {
  const { rest, grpc } = await underLoad(async ({ cluster, proxy }) => {
    for (let time = 0; time < times; time += 1) {
      for (const node of cluster.nodes) {
        await node.stop();
        await node.start();
        await until(async () => (await serversUp(proxy)).length === NODES, 'all nodes in rotation');
      }
    }
  });
  return { rest: outcomeOf(rest), grpc: outcomeOf(grpc) };
}

export interface LossOutcome extends BothOutcomes {
  /** Calls of gRPC, beside those in `grpc`, that broke off after their answer had begun: only some that were then under way. */
  readonly brokenOff: number;
  /** p99 of REST in the second before, and in each second after. */
  readonly p99Ms: { readonly before: number; readonly after: readonly number[] };
}

/** Loses a node for some seconds. @param lose takes it away; the result brings it back. */
async function loss(lose: (node: Node) => Promise<() => Promise<void>>, seconds: number): Promise<LossOutcome> {
  const {
    result: lost,
    rest,
    grpc,
  } = await underLoad(async ({ cluster, proxy }) => {
    await sleep(2_000);
    const from = performance.now();
    const back = await lose(cluster.nodes[1] as Node);
    const to = performance.now();
    await sleep(seconds * 1_000);
    await back();
    await until(async () => (await serversUp(proxy)).length === NODES, 'all nodes in rotation');
    await sleep(1_000);
    return { from, to };
  });
  const within = (from: number, to: number) =>
    rest.filter(({ began }) => began >= lost.from + from && began < lost.from + to);
  const p99 = (from: number) => outcomeOf(within(from, from + 1_000)).p99Ms;
  const after = Array.from({ length: seconds }, (_, second) => p99(second * 1_000));
  const wasUnderWay = ({ began, ms }: Answer) => began <= lost.to && began + ms >= lost.from;
  const others = grpc.filter((answer) => !isBrokenOff(answer) || !wasUnderWay(answer));
  return {
    ...{ rest: outcomeOf(rest), grpc: outcomeOf(others), brokenOff: grpc.length - others.length },
    p99Ms: { before: outcomeOf(within(-2_000, 0)).p99Ms, after },
  };
}

/** SIGKILL of a node. */
export const killed = (seconds: number) =>
  loss(async (node) => {
    await node.kill();
    return () => node.start();
  }, seconds);

/** A node that nobody reaches, and that reaches nobody, while it runs. */
export const cutOff = (seconds: number) =>
  loss(async (node) => {
    node.host.cut?.(true);
    return async () => node.host.cut?.(false);
  }, seconds);

/** A node that stands still, while its system still takes what is sent. */
export const frozen = (seconds: number) =>
  loss(async (node) => {
    const pid = String(node.program.pid);
    process.kill(Number(pid), 'SIGSTOP');
    return async () => void process.kill(Number(pid), 'SIGCONT');
  }, seconds);
