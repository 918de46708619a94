import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NodeRecord } from '../../dist/cluster/membership/node-record.js';
import { HaproxyFollower } from '../../dist/cluster/proxies/haproxy-follower.js';
import { until } from '../support/cluster/programs.js';
import { directory } from '../support/directories.js';

/** What HAProxy says of servers of REST: two are up, and the third is not ready. */
const STATE = `1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port srv_check_port
4 rest 1 n1 10.0.0.1 2 0 8000 0
4 rest 2 n2 10.0.0.2 2 0 8000 0
4 rest 3 n3 10.0.0.3 2 0 8000 0
5 rest_ready 1 n1 10.0.0.1 2 0 8000 0
5 rest_ready 2 n2 10.0.0.2 2 0 8000 0
5 rest_ready 3 n3 10.0.0.3 0 0 8000 0
`;

describe('a follower of HAProxy', () => {
  const socket = join(directory(), 'haproxy.sock');
  let server: Server;
  let looks = 0;
  let commands: string[] = [];
  let warnings: string[] = [];
  let follower: HaproxyFollower;
  beforeEach(async () => {
    [looks, commands, warnings] = [0, [], []];
    server = createServer((connection) => {
      connection.once('data', (bytes) => {
        const lines = bytes.toString().trim().split(';');
        const isLook = lines[0] === 'show servers state';
        if (isLook) looks += 1;
        else commands.push(...lines);
        connection.end(isLook ? STATE : '\n');
      });
    });
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    follower = new HaproxyFollower(socket, {
      info: () => undefined,
      warn: (message) => void warnings.push(message),
    });
  });
  afterEach(async () => {
    await follower.stop();
    await new Promise((resolve) => server.close(resolve));
  });
  const record = (host: string, more: Partial<NodeRecord> = {}): NodeRecord => ({
    ...{ node: host, http: `${host}:8000`, version: '1', ready: true },
    ...{ load: { ongoing: 0, queued: 0, cpu: 0 }, ...more },
  });
  const seen = async () => {
    const before = looks;
    // The look that may have begun before ends before the next one begins.
    await until(() => looks > before + 1, 'two looks');
  };

  it('takes a server out whose node it does not hear of only if its probes fail, too', async () => {
    follower.tell(new Map([[1, record('10.0.0.1')]]));
    await seen();
    await seen();
    expect(new Set(commands)).toStrictEqual(
      new Set(['set server rest/n3 state maint', 'set server rest_ready/n3 state maint']),
    );
  });

  it('takes the server out of the slot that a node had before', async () => {
    follower.tell(
      new Map([
        [1, record('10.0.0.2')],
        [3, record('10.0.0.3')],
      ]),
    );
    await seen();
    const backends = ['rest', 'rest_ready'];
    expect(new Set(commands)).toStrictEqual(
      new Set([
        ...backends.map((backend) => `set server ${backend}/n1 addr 10.0.0.2 port 8000`),
        ...backends.map((backend) => `set server ${backend}/n2 state maint`),
      ]),
    );
  });

  it('takes a server out whose node drains', async () => {
    follower.tell(
      new Map([
        [1, record('10.0.0.1')],
        [2, record('10.0.0.2', { draining: true })],
        [3, record('10.0.0.3')],
      ]),
    );
    await until(() => commands.length > 0, 'a command');
    expect(commands[0]).toBe('set server rest/n2 state maint');
  });

  it('leaves a server as it is whose name cannot be looked up, and says so once', async () => {
    follower.tell(
      new Map([
        // Longer than names may be: nobody has to be asked.
        [1, record('x'.repeat(64))],
        [2, record('10.0.0.4')],
        [3, record('10.0.0.3')],
      ]),
    );
    await seen();
    await seen();
    expect(new Set(commands)).toStrictEqual(
      new Set(['rest', 'rest_ready'].map((backend) => `set server ${backend}/n2 addr 10.0.0.4 port 8000`)),
    );
    expect(warnings).toStrictEqual([expect.stringContaining('xx cannot be looked up: ')]);
  });

  it('says which nodes get nothing, and why', async () => {
    follower.tell(
      new Map([
        [1, record('10.0.0.1', { tls: true })],
        [9, record('10.0.0.9')],
      ]),
    );
    await seen();
    expect(warnings).toStrictEqual([
      expect.stringMatching(/^10\.0\.0\.1 gets no requests: it has TLS: .* --node-ca/),
      '10.0.0.9 gets no requests: it has slot 9, and HAProxy has 3: make its configuration with more --slots',
    ]);
  });
});
