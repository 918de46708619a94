import { setTimeout as sleep } from 'node:timers/promises';
import { type Haproxy, serversUp, startHaproxy } from '../../test/support/cluster/haproxy.js';
import {
  type Answer,
  FixedRate,
  grpcSender,
  isBrokenOff,
  quantile,
  restSender,
} from '../../test/support/cluster/load.js';
import type { Node } from '../../test/support/cluster/nodes.js';
import { until } from '../../test/support/cluster/programs.js';
import { median } from '../load/measurements.js';
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
  /** p99 of REST in a second: before, and from {@link RECOVERY_MS} after the loss on, while the node is still lost. */
  readonly p99Ms: { readonly before: number; readonly after: number };
}

/** Until then p99 must be what it was. */
const RECOVERY_MS = 3_000;

/**
 * Loses a node, and measures for some seconds before, and for as many after p99 must have recovered: that of one second varies by
 * half.
 *
 * @param lose takes it away; the result brings it back.
 */
async function loss(lose: (node: Node) => Promise<() => Promise<void>>, seconds: number): Promise<LossOutcome> {
  const measuredMs = seconds * 1_000;
  const {
    result: lost,
    rest,
    grpc,
  } = await underLoad(async ({ cluster, proxy }) => {
    await sleep(measuredMs);
    const from = performance.now();
    const back = await lose(cluster.nodes[1] as Node);
    const to = performance.now();
    await sleep(RECOVERY_MS + measuredMs);
    await back();
    await until(async () => (await serversUp(proxy)).length === NODES, 'all nodes in rotation');
    await sleep(1_000);
    return { from, to };
  });
  /** The median of the seconds: a moment in which the host does something else belongs to one of them. */
  const p99From = (from: number) => {
    const secondOf = ({ began }: Answer) => Math.floor((began - from) / 1_000);
    const each = Array.from({ length: seconds }, (_, second) => rest.filter((answer) => secondOf(answer) === second));
    return median(each.map((answers) => quantile(answers, 0.99)));
  };
  const wasUnderWay = ({ began, ms }: Answer) => began <= lost.to && began + ms >= lost.from;
  const others = grpc.filter((answer) => !isBrokenOff(answer) || !wasUnderWay(answer));
  return {
    ...{ rest: outcomeOf(rest), grpc: outcomeOf(others), brokenOff: grpc.length - others.length },
    p99Ms: { before: p99From(lost.from - measuredMs), after: p99From(lost.from + RECOVERY_MS) },
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
