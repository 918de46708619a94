import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startHaproxy } from '../../test/support/cluster/haproxy.js';
import { LOOPBACK } from '../../test/support/cluster/hosts.js';
import { Node } from '../../test/support/cluster/nodes.js';
import { directory } from '../../test/support/directories.js';
import { DIGIT, modelsDirectory } from './setting.js';

const CALLERS = 64;

/** Requests per second of a node alone, and of the same node behind HAProxy: as a bare one, and with the generated configuration. */
export interface OverheadRates {
  readonly alone: number[];
  readonly bare: number[];
  readonly generated: number[];
}

/** Which cores the node has, and which HAProxy and the callers have; undefined: all. */
export interface Cores {
  readonly node: string | undefined;
  readonly others: string | undefined;
}

/**
 * The node has a core of its own, behind HAProxy and without it: one of two cores, and the other one in turn, since other users
 * of the host may slow either of them down for half a minute.
 *
 * @throws Error with one core.
 */
export function ownCores(): readonly Cores[] {
  const [, list = ''] = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const allowed = list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
  });
  const [one, other] = allowed;
  if (other === undefined) throw new Error('two cores are needed');
  return [
    { node: one, others: other },
    { node: other, others: one },
  ];
}

/** HAProxy takes its time from the node's cores. */
export const SHARED_CORES: readonly Cores[] = [{ node: undefined, others: undefined }];

/** Short turns: the speed of a machine that others share changes within a second. Connections are made before. */
const TURN = ['-D', '250ms', '--warm-up-time', '100ms'];

/** Measures the three in turns. h2load makes the callers. @param places a rate is the mean of those with each of them. */
export async function overhead(rounds: number, places: readonly Cores[]): Promise<OverheadRates> {
  const scenes = await Promise.all(places.map(startScene));
  const rates: OverheadRates = { alone: [], bare: [], generated: [] };
  const names = Object.keys(rates) as (keyof OverheadRates)[];
  for (const { measure } of scenes) for (const name of names) measure(name);
  for (let round = 0; round < rounds; round += 1)
    for (const name of names) {
      const each = scenes.map(({ measure }) => measure(name));
      rates[name].push(each.reduce((sum, rate) => sum + rate, 0) / each.length);
    }
  await Promise.all(scenes.map(({ stop }) => stop()));
  return rates;
}

interface Scene {
  /** Returns the requests per second of one turn. */
  measure(name: keyof OverheadRates): number;
  stop(): Promise<void>;
}

async function startScene(cores: Cores): Promise<Scene> {
  const on = (list: string | undefined) => (list === undefined ? [] : ['taskset', '-c', list]);
  const node = await Node.start({ ...LOOPBACK, prefix: on(cores.node) }, { models: modelsDirectory(1) });
  const prefix = on(cores.others);
  const bare = await startHaproxy([node], (config) => withoutRules(config, node.http), { prefix });
  const generated = await startHaproxy([node], undefined, { prefix });
  const addresses = { alone: node.http, bare: bare.http, generated: generated.http };
  const body = join(directory(), 'body.json');
  writeFileSync(body, JSON.stringify({ inputs: [{ ...DIGIT, datatype: 'FP32' }] }));
  const measure = (name: keyof OverheadRates) => {
    const args = ['--h1', `-c${CALLERS}`, ...TURN, '-d', body, `http://${addresses[name]}/v2/models/m1/infer`];
    const [program = '', ...more] = [...prefix, 'h2load', ...args];
    const text = execFileSync(program, more, { encoding: 'utf8' });
    const [, ok, others] = /status codes: (\d+) 2xx, (.*)/.exec(text) ?? [];
    if (Number(ok) === 0 || others !== '0 3xx, 0 4xx, 0 5xx') throw new Error(`h2load: ${text}`);
    return Number(/, ([\d.]+) req\/s/.exec(text)?.[1]);
  };
  const stop = async () => {
    await Promise.all([bare.stop(), generated.stop()]);
    await node.stop();
  };
  return { measure, stop };
}

/** HAProxy that passes everything on to one server. */
function withoutRules(config: string, server: string): string {
  const [[, bind], [socket]] = [/frontend rest[^\n]*\n\s+bind (\S+)/, /stats socket [^\n]*/].map(
    (pattern) => pattern.exec(config) as RegExpExecArray,
  ) as [RegExpExecArray, RegExpExecArray];
  return `global
  ${socket}
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
frontend rest
  bind ${bind}
  default_backend rest
backend rest
  server n1 ${server}
`;
}
