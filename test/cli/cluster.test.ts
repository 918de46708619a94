import { describe, expect, it } from 'vitest';
import { parseAddress } from '../../dist/cluster/addresses.js';
import { envoyConfig } from '../../dist/cluster/proxies/envoy.js';
import { haproxyConfig } from '../../dist/cluster/proxies/haproxy.js';
import { pairNodes } from '../../dist/cluster/proxies/proxied-nodes.js';
import { infermux, infermuxWith } from '../support/infermux.js';

const NODES = ['--nodes', '10.0.0.1:8000,10.0.0.2:8000'];
const GRPC = ['--grpc', '10.0.0.1:8001,10.0.0.2:8001'];
const nodes = pairNodes(
  ['10.0.0.1:8000', '10.0.0.2:8000'].map(parseAddress),
  ['10.0.0.1:8001', '10.0.0.2:8001'].map(parseAddress),
);
const settings = {
  nodes,
  bind: parseAddress('0.0.0.0:8000'),
  bindGrpc: parseAddress('0.0.0.0:8001'),
  nodeCa: '/ca.crt',
};
const config = (...args: string[]) => infermux('cluster', 'config', ...args);

describe('infermux cluster config', () => {
  it.each([
    ['haproxy', haproxyConfig],
    ['envoy', envoyConfig],
  ] as const)('prints a configuration of %s', async (proxy, make) => {
    const { code, stdout, stderr } = await config(proxy, ...NODES, ...GRPC, '--node-ca', '/ca.crt');
    expect({ code, stdout, stderr }).toStrictEqual({ code: 0, stdout: make(settings), stderr: '' });
  });

  it('prints one for nodes that come and go without asking NATS, which the environment may name', async () => {
    const template = { slots: 3, socket: '/run/s.sock' };
    const made = haproxyConfig({ ...settings, nodes: [], nodeCa: undefined }, template);
    const flags = ['--once', '--slots', '3', '--socket', '/run/s.sock'];
    const { code, stdout } = await infermuxWith(
      { INFERMUX_NATS: 'nats://127.0.0.1:1' },
      ...['cluster', 'config', 'haproxy', ...flags],
    );
    expect([code, stdout]).toStrictEqual([0, made]);
  });

  it.each([
    ['give either --nodes or --nats', ['haproxy']],
    ['give either --nodes or --nats', ['haproxy', ...NODES, '--nats', 'nats://127.0.0.1:1']],
    ['give the nodes with --nodes', ['envoy']],
    ['--nodes: expected host:port', ['haproxy', '--nodes', '10.0.0.1']],
    ['--nodes names 2 and --grpc 1', ['envoy', ...NODES, '--grpc', '10.0.0.1:8001']],
    ['--bind-grpc needs --grpc', ['haproxy', ...NODES, '--bind-grpc', '0.0.0.0:9']],
    ['--slots needs --nats', ['haproxy', ...NODES, '--slots', '3']],
    ['--once needs --nats', ['haproxy', ...NODES, '--once']],
    ['--grpc needs --nodes', ['haproxy', '--nats', 'nats://127.0.0.1:1', '--once', ...GRPC]],
    ['--slots must be at most 1000', ['haproxy', '--nats', 'nats://127.0.0.1:1', '--once', '--slots', '1001']],
    ['--socket must be an absolute path', ['haproxy', '--nats', 'nats://127.0.0.1:1', '--once', '--socket', 's']],
    ['--socket must have at most', ['haproxy', '--nats', 'nats://127.0.0.1:1', '--socket', `/${'s'.repeat(99)}`]],
    ['--node-ca must be an absolute path', ['envoy', ...NODES, '--node-ca', 'ca.crt']],
  ] as const)('says what is wrong: %s', async (message, args) => {
    const { code, stdout, stderr } = await config(...args);
    expect([code, stdout]).toStrictEqual([2, '']);
    expect(stderr).toContain(message);
  });
});

describe('infermux serve', () => {
  it('says that an address to announce needs somebody to announce it to, and that it is none', async () => {
    const without = await infermux('serve', '--advertise', '10.0.0.1');
    expect([without.code, without.stderr]).toStrictEqual([2, expect.stringContaining('--advertise is what --nats')]);
    const odd = await infermux('serve', '--nats', 'nats://127.0.0.1:1', '--advertise', 'bad host!');
    expect([odd.code, odd.stderr]).toStrictEqual([
      2,
      expect.stringContaining('--advertise must be a host name or an address, without a port, got "bad host!"'),
    ]);
  });
});
