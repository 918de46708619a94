import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { parseAddress } from '../../../dist/cluster/addresses.js';
import { haproxyConfig } from '../../../dist/cluster/proxies/haproxy.js';
import { pairNodes } from '../../../dist/cluster/proxies/proxied-nodes.js';
import { directory } from '../directories.js';
import { freePort } from './hosts.js';
import type { Node } from './nodes.js';
import { type Program, startProgram, until } from './programs.js';

export interface Haproxy {
  readonly http: string;
  readonly grpc: string;
  readonly socket: string;
  readonly program: Program;
  /** Sends a command to the runtime socket. */
  ask(command: string): Promise<string>;
  stop(): Promise<void>;
}

/** Starts HAProxy with the generated configuration for the nodes. @param change of the text, for comparisons. */
export async function startHaproxy(
  nodes: readonly Pick<Node, 'http' | 'grpc'>[],
  change: (config: string) => string = (config) => config,
  {
    slots,
    socket = join(directory(), 'haproxy.sock'),
    prefix = [],
    nodeCa,
  }: {
    readonly slots?: number;
    readonly socket?: string;
    readonly prefix?: readonly string[];
    readonly nodeCa?: string;
  } = {},
): Promise<Haproxy> {
  const [http, grpc] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const paired = pairNodes(
    nodes.map((node) => parseAddress(node.http)),
    nodes.map((node) => parseAddress(node.grpc)),
  );
  const settings = { nodes: paired, bind: parseAddress(http), bindGrpc: parseAddress(grpc), nodeCa };
  const template = slots === undefined ? undefined : { slots, socket };
  const config = haproxyConfig(settings, template);
  const file = join(directory(), 'haproxy.cfg');
  const withSocket =
    template === undefined ? config.replace('global\n', `global\n  stats socket ${socket} level admin\n`) : config;
  writeFileSync(file, change(withSocket));
  const program = startProgram([...prefix, 'haproxy', '-db', '-f', file]);
  const proxy: Haproxy = {
    ...{ http, grpc, socket, program },
    ask: (command) => askSocket(socket, command),
    stop: async () => {
      program.kill('SIGTERM');
      await program.exited;
    },
  };
  await until(async () => {
    const stat = await proxy.ask('show servers state').catch(() => '');
    const ended = await Promise.race([program.exited, undefined]);
    if (ended !== undefined) throw new Error(`HAProxy ended with ${ended}: ${program.output()}`);
    return stat.includes('rest');
  }, 'HAProxy');
  return proxy;
}

export function askSocket(path: string, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.on('data', (bytes) => (text += bytes));
    socket.on('end', () => resolve(text));
    socket.on('error', reject);
    socket.write(`${command}\n`);
  });
}

/** The nodes that HAProxy sends requests to, by backend and server. */
export async function serversUp(proxy: Haproxy, backend = 'rest'): Promise<string[]> {
  const [head = '', ...rows] = (await proxy.ask('show stat')).trim().split('\n');
  const names = head.replace(/^# /, '').split(',');
  const [name, server, status] = ['pxname', 'svname', 'status'].map((each) => names.indexOf(each)) as [
    number,
    number,
    number,
  ];
  return rows
    .map((row) => row.split(','))
    .filter((row) => row[name] === backend && row[server] !== 'BACKEND' && row[status]?.startsWith('UP'))
    .map((row) => row[server] as string);
}
