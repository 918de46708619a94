import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { affinity, moves } from '../../../bench/cluster/affinity.js';
import { cutOff, killed, rollingRestart } from '../../../bench/cluster/faults.js';
import { overhead, ownCores } from '../../../bench/cluster/overhead.js';
import { DIGIT, modelNames, modelsDirectory, startCluster } from '../../../bench/cluster/setting.js';
import { slowNode } from '../../../bench/cluster/slow.js';
import { median } from '../../../bench/load/measurements.js';
import { startHaproxy } from '../../support/cluster/haproxy.js';
import { createNetwork, isInstalled } from '../../support/cluster/hosts.js';
import { grpcSender, restSender } from '../../support/cluster/load.js';

const hasNamespaces = (() => {
  const network = createNetwork(1);
  network.remove();
  return network.isReal;
})();

/** The bounds are those of the table; `npm run bench:cluster` has the full size. */
describe.skipIf(!isInstalled('haproxy'))('nodes behind HAProxy with the generated configuration', () => {
  it('have the requests for a model on one node, so that few loads are needed', async () => {
    const small = { nodes: 4, models: 24, sessions: 8, exponent: 1, callers: 8, requests: 600 };
    // Places on the ring follow from addresses, which are others each time: a node may have to serve more models than it has room for.
    const rounds: Awaited<ReturnType<typeof affinity>>[] = [];
    for (let round = 0; round < 3; round += 1) rounds.push(await affinity(small));
    for (const { roundRobin, hashed, alone } of rounds)
      expect([roundRobin.failed, hashed.failed, alone.failed]).toStrictEqual([0, 0, 0]);
    expect(median(rounds.map(({ hashed, alone }) => hashed.hitRate / alone.hitRate))).toBeGreaterThanOrEqual(0.9);
    expect(median(rounds.map(({ hashed, roundRobin }) => hashed.loads / roundRobin.loads))).toBeLessThanOrEqual(0.25);
  });

  it('have the requests for a model on one node in both protocols', async () => {
    const models = modelNames(8);
    const cluster = await startCluster(3, { models: modelsDirectory(models.length), flags: [] });
    const proxy = await startHaproxy(cluster.nodes);
    const senders = [restSender(proxy.http, DIGIT, 1), grpcSender(proxy.grpc, DIGIT)];
    const nodes: (string | undefined)[][] = [];
    for (const { send } of senders) {
      const used: (string | undefined)[] = [];
      for (const model of models) used.push((await send(model)).node);
      nodes.push(used);
    }
    expect(new Set(nodes[0]).size).toBeGreaterThan(1);
    expect(nodes[1]).toStrictEqual(nodes[0]);
    await Promise.all(senders.map(({ close }) => close()));
    await proxy.stop();
    await cluster.close();
  });

  it('give few models to a node that is added, and move no others', async () => {
    const { moved, toOthers } = await moves(3, 120);
    expect(moved).toBeGreaterThan(0);
    expect(moved).toBeLessThanOrEqual(1.3 / 4);
    expect(toOthers).toBe(0);
  });

  it('are restarted one after the other without a failed request, in REST and in gRPC', async () => {
    const { rest, grpc } = await rollingRestart(1);
    expect(rest).toMatchObject({ failed: 0, failure: undefined });
    expect(grpc).toMatchObject({ failed: 0, failure: undefined });
    expect(Math.min(rest.answers, grpc.answers)).toBeGreaterThan(1_000);
  });

  it('may be killed without a failed request whose answer had not begun', async () => {
    const { rest, grpc, p99Ms } = await killed(7);
    expect(rest).toMatchObject({ failed: 0, failure: undefined });
    expect(grpc).toMatchObject({ failed: 0, failure: undefined });
    expect(p99Ms.after).toBeLessThanOrEqual(1.5 * p99Ms.before);
  });

  it.skipIf(!hasNamespaces)('may be cut off from the network likewise', async () => {
    const { rest, grpc, p99Ms } = await cutOff(7);
    expect(rest).toMatchObject({ failed: 0, failure: undefined });
    expect(grpc).toMatchObject({ failed: 0, failure: undefined });
    expect(p99Ms.after).toBeLessThanOrEqual(1.5 * p99Ms.before);
  });

  it('pass over a node that has a tenth of its time', async () => {
    const { healthy, slow } = await slowNode(4);
    expect([healthy.failed, slow.failed]).toStrictEqual([0, 0]);
    expect(slow.p99Ms).toBeLessThanOrEqual(1.5 * healthy.p99Ms);
  });

  const hasCallers = isInstalled('h2load') && isInstalled('taskset') && availableParallelism() > 1;
  it.skipIf(!hasCallers)('keep four fifths of the throughput that a node has alone on its core', async () => {
    const { alone, generated } = await overhead(40, ownCores());
    expect(median(generated.map((rate, turn) => rate / (alone[turn] as number)))).toBeGreaterThanOrEqual(0.8);
  });
});
