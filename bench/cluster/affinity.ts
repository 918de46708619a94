import { startHaproxy } from '../../test/support/cluster/haproxy.js';
import { LOOPBACK } from '../../test/support/cluster/hosts.js';
import { ClosedLoop, restSender } from '../../test/support/cluster/load.js';
import { Node } from '../../test/support/cluster/nodes.js';
import { until } from '../../test/support/cluster/programs.js';
import {
  DIGIT,
  first,
  modelNames,
  modelsDirectory,
  type Outcome,
  outcomeOf,
  seeded,
  startCluster,
  zipf,
} from './setting.js';

/** What a load of requests for many models costs. */
export interface AffinityOutcome extends Outcome {
  /** Loads of models per 1,000 requests. */
  readonly loads: number;
  /** Fraction of the requests that began no load. */
  readonly hitRate: number;
}

export interface AffinitySetting {
  readonly nodes: number;
  readonly models: number;
  /** Sessions of each node. */
  readonly sessions: number;
  readonly exponent: number;
  readonly callers: number;
  readonly requests: number;
}

const loadsOf = async (nodes: readonly Node[]) => {
  const counts = await Promise.all(nodes.map((node) => node.metric('infermux_model_loads_total')));
  return counts.reduce((sum, count) => sum + count, 0);
};

async function measure(address: string, nodes: readonly Node[], setting: AffinitySetting): Promise<AffinityOutcome> {
  const { models, exponent, callers, requests } = setting;
  const { send, close } = restSender(address, DIGIT, callers);
  const load = (count: number, seed: number) =>
    new ClosedLoop(send, callers, first(count, zipf(modelNames(models), exponent, seeded(seed)))).ended();
  // The caches fill.
  await load(Math.ceil(requests / 4), 1);
  const before = await loadsOf(nodes);
  const answers = await load(requests, 2);
  const loads = (await loadsOf(nodes)) - before;
  await close();
  return { ...outcomeOf(answers), loads: (1_000 * loads) / requests, hitRate: 1 - loads / requests };
}

const asRoundRobin = (config: string) =>
  config
    .replaceAll(/balance hash.*/g, 'balance roundrobin')
    .replaceAll(/ *hash-(type|balance).*/g, '')
    .replaceAll(/ *use_backend \w+_spread.*/g, '');

/** The generated configuration against round robin, and against one node that holds as many sessions as all together. */
export async function affinity(setting: AffinitySetting) {
  const models = modelsDirectory(setting.models);
  const flagsOf = (sessions: number) => ['--max-models', String(sessions)];
  const cluster = await startCluster(setting.nodes, { models, flags: flagsOf(setting.sessions) });
  const behind = async (change?: (config: string) => string) => {
    const proxy = await startHaproxy(cluster.nodes, change);
    const outcome = await measure(proxy.http, cluster.nodes, setting);
    await proxy.stop();
    return outcome;
  };
  const roundRobin = await behind(asRoundRobin);
  const hashed = await behind();
  await cluster.close();
  const single = await Node.start(LOOPBACK, { models, flags: flagsOf(setting.sessions * setting.nodes) });
  const alone = await measure(single.http, [single], setting);
  await single.stop();
  return { roundRobin, hashed, alone };
}

/** The share of the models that go to another node when one is added to so many. */
export async function moves(count: number, modelCount: number): Promise<{ moved: number; toOthers: number }> {
  const models = modelNames(modelCount);
  const cluster = await startCluster(count + 1, { models: modelsDirectory(modelCount) });
  const placesBehind = async (nodes: readonly Node[]) => {
    const proxy = await startHaproxy(nodes);
    const { send, close } = restSender(proxy.http, DIGIT, 1);
    // A node's share grows while it is new.
    await until(async () => !(await proxy.ask('show stat')).includes('UP 1/'), 'the nodes');
    const places = new Map<string, string | undefined>();
    for (const model of models) places.set(model, (await send(model)).node);
    await close();
    await proxy.stop();
    return places;
  };
  const before = await placesBehind(cluster.nodes.slice(0, count));
  const after = await placesBehind(cluster.nodes);
  const added = (await (cluster.nodes.at(-1) as Node).report()).node;
  await cluster.close();
  const moved = models.filter((model) => before.get(model) !== after.get(model));
  const toOthers = moved.filter((model) => after.get(model) !== added);
  return { moved: moved.length / modelCount, toOthers: toOthers.length / modelCount };
}
