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

/** The node has a core of its own, behind HAProxy and without it. @throws Error with one core. */
export function ownCores(): Cores {
  const [, list = ''] = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const allowed = list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
  });
  const [node, others] = allowed;
  if (others === undefined) throw new Error('two cores are needed');
  return { node, others };
}

/** HAProxy takes its time from the node's cores. */
export const SHARED_CORES: Cores = { node: undefined, others: undefined };

/** Short turns: the speed of a machine that others share changes within a second. Connections are made before. */
const TURN = ['-D', '250ms', '--warm-up-time', '100ms'];

/** Measures the three in turns. h2load makes the callers. */
export async function overhead(rounds: number, cores: Cores): Promise<OverheadRates> {
  const on = (list: string | undefined) => (list === undefined ? [] : ['taskset', '-c', list]);
  const node = await Node.start({ ...LOOPBACK, prefix: on(cores.node) }, { models: modelsDirectory(1) });
  const prefix = on(cores.others);
  const bare = await startHaproxy([node], (config) => withoutRules(config, node.http), { prefix });
  const generated = await startHaproxy([node], undefined, { prefix });
  const addresses = { alone: node.http, bare: bare.http, generated: generated.http };
  const body = join(directory(), 'body.json');
  writeFileSync(body, JSON.stringify({ inputs: [{ ...DIGIT, datatype: 'FP32' }] }));
  const measure = (address: string) => {
    const args = ['--h1', `-c${CALLERS}`, ...TURN, '-d', body, `http://${address}/v2/models/m1/infer`];
    const [program = '', ...more] = [...prefix, 'h2load', ...args];
    const text = execFileSync(program, more, { encoding: 'utf8' });
    const [, ok, others] = /status codes: (\d+) 2xx, (.*)/.exec(text) ?? [];
    if (Number(ok) === 0 || others !== '0 3xx, 0 4xx, 0 5xx') throw new Error(`h2load: ${text}`);
    return Number(/, ([\d.]+) req\/s/.exec(text)?.[1]);
  };
  const rates: OverheadRates = { alone: [], bare: [], generated: [] };
  const names = Object.keys(rates) as (keyof OverheadRates)[];
  for (const name of names) measure(addresses[name]);
  for (let round = 0; round < rounds; round += 1) for (const name of names) rates[name].push(measure(addresses[name]));
  await Promise.all([bare.stop(), generated.stop()]);
  await node.stop();
  return rates;
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
