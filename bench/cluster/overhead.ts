import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startHaproxy } from '../../test/support/cluster/haproxy.js';
import { LOOPBACK } from '../../test/support/cluster/hosts.js';
import { Node } from '../../test/support/cluster/nodes.js';
import { directory } from '../../test/support/directories.js';
import { DIGIT, modelsDirectory } from './setting.js';

const CALLERS = 64;

export interface OverheadRates {
  readonly alone: number[];
  readonly proxied: number[];
}

/** Requests per second of a node alone and behind HAProxy, in turns, on the same cores. h2load makes the callers. */
export async function overhead(rounds: number, seconds: number): Promise<OverheadRates> {
  const node = await Node.start(LOOPBACK, { models: modelsDirectory(1) });
  const proxy = await startHaproxy([node]);
  const addresses = { alone: node.http, proxied: proxy.http };
  const body = join(directory(), 'body.json');
  writeFileSync(body, JSON.stringify({ inputs: [{ ...DIGIT, datatype: 'FP32' }] }));
  const measure = (address: string) => {
    const args = ['--h1', `-c${CALLERS}`, `-D${seconds}`, '-d', body, `http://${address}/v2/models/m1/infer`];
    const text = execFileSync('h2load', args, { encoding: 'utf8' });
    const [, ok, others] = /status codes: (\d+) 2xx, (.*)/.exec(text) ?? [];
    if (Number(ok) === 0 || others !== '0 3xx, 0 4xx, 0 5xx') throw new Error(`h2load: ${text}`);
    return Number(/, ([\d.]+) req\/s/.exec(text)?.[1]);
  };
  const rates: OverheadRates = { alone: [], proxied: [] };
  const names = Object.keys(rates) as (keyof OverheadRates)[];
  for (const name of names) measure(addresses[name]);
  for (let round = 0; round < rounds; round += 1) for (const name of names) rates[name].push(measure(addresses[name]));
  await proxy.stop();
  await node.stop();
  return rates;
}
