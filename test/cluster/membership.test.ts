import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyOf, slotOf } from '../../dist/cluster/membership/bucket.js';
import { decodeRecord, encodeRecord } from '../../dist/cluster/membership/node-record.js';
import { commandsFor, type HaproxyServer, readServers } from '../../dist/cluster/proxies/haproxy-servers.js';
import { clusterReport } from '../../dist/cluster/status/cluster-report.js';
import type { NodeModel, NodeReport } from '../../dist/server/index.js';

const record = {
  ...{ node: 'a', http: '10.0.0.1:8000', grpc: '10.0.0.1:8001', version: '1', ready: true },
  load: { ongoing: 1, queued: 0, cpu: 0.5 },
};
const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

describe('the record of a node', () => {
  it('comes back as it was, without its models where they are too many for a message', () => {
    const small = { ...record, models: { m: [1, 2] }, loaded: ['m'] };
    expect(decodeRecord(new TextEncoder().encode(encodeRecord(small)))).toStrictEqual(small);
    const models = Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`model-${index}`, [1]]));
    expect(JSON.parse(encodeRecord({ ...record, models, loaded: [] }))).toStrictEqual(record);
  });

  it('is none where others wrote it', () => {
    const wrong = [
      null,
      1,
      {},
      { ...record, node: 1 },
      { ...record, http: 'x' },
      { ...record, grpc: 'a b:1' },
      { ...record, load: {} },
    ];
    for (const value of wrong) expect(decodeRecord(bytesOf(value))).toBeUndefined();
    expect(decodeRecord(Uint8Array.of(1, 2))).toBeUndefined();
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(() => decodeRecord(bytesOf(value))).not.toThrow();
      }),
    );
  });

  it('is under a key with the number of its slot', () => {
    expect(slotOf(keyOf(17))).toBe(17);
    for (const key of ['slot.0', 'slot.x', 'slot.01', 'slot', 'slot.1.2', 'node.1'])
      expect(slotOf(key)).toBeUndefined();
  });
});

describe('the servers of HAProxy', () => {
  it('are read from its answer', () => {
    const text = `1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port srv_check_port
4 rest 1 n1 127.0.0.1 0 5 1 0
4 rest 2 n2 10.0.0.2 2 0 8000 0

`;
    expect(readServers(text)).toStrictEqual([
      { backend: 'rest', server: 'n1', address: '127.0.0.1', port: 1, checkPort: 0, isDisabled: true, isDown: true },
      {
        backend: 'rest',
        server: 'n2',
        address: '10.0.0.2',
        port: 8_000,
        checkPort: 0,
        isDisabled: false,
        isDown: false,
      },
    ]);
    expect(readServers('Unknown command')).toStrictEqual([]);
  });

  const server = fc.record({
    backend: fc.constantFrom('rest', 'rest_spread', 'grpc', 'grpc_ready'),
    server: fc.constantFrom('n1', 'n2', 'n3', 'other'),
    address: fc.constantFrom('127.0.0.1', '10.0.0.1', '10.0.0.2'),
    port: fc.constantFrom(1, 8_000, 8_001),
    checkPort: fc.constantFrom(0, 8_000),
    isDisabled: fc.boolean(),
    isDown: fc.boolean(),
  });
  const node = fc.record({
    http: fc.constantFrom('10.0.0.1:8000', '10.0.0.2:8000'),
    grpc: fc.constantFrom('10.0.0.1:8001', undefined),
  });

  /** What HAProxy does with the commands. */
  function applied(servers: readonly HaproxyServer[], commands: readonly string[]): HaproxyServer[] {
    const now = servers.map((each) => ({ ...each }));
    for (const command of commands) {
      const [, name = '', what = '', first = '', , port] =
        /^set server (\S+) (\S+) (\S+)( port (\d+))?$/.exec(command) ?? [];
      for (const each of now.filter(({ backend, server: own }) => `${backend}/${own}` === name)) {
        if (what === 'addr') Object.assign(each, { address: first, port: Number(port) });
        if (what === 'check-port') each.checkPort = Number(first);
        if (what === 'state') each.isDisabled = first === 'maint';
      }
    }
    return now;
  }

  it('become the nodes that are there, and then need nothing more', () => {
    const servers = fc.uniqueArray(server, { selector: (each) => `${each.backend}/${each.server}` });
    const nodes = fc.array(node, { maxLength: 3 }).map((list) => new Map(list.map((each, index) => [index + 1, each])));
    fc.assert(
      fc.property(servers, nodes, (before, placed) => {
        const after = applied(before, commandsFor(before, placed));
        expect(commandsFor(after, placed)).toStrictEqual([]);
        for (const each of after) {
          if (each.server === 'other') continue;
          const own = placed.get(Number(each.server.slice(1)));
          const wanted = each.backend.startsWith('grpc') ? own?.grpc : own?.http;
          expect(each.isDisabled).toBe(wanted === undefined);
          if (wanted !== undefined) expect(`${each.address}:${each.port}`).toBe(wanted);
        }
      }),
    );
  });
});

describe('a slot that nobody was heard of for', () => {
  it('stays as it is as long as its node may only be late', () => {
    const servers =
      readServers(`# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port srv_check_port
4 rest 1 n1 10.0.0.1 2 0 8000 0
4 rest 2 n2 10.0.0.2 2 0 8000 0
`);
    const placed = new Map([[1, { http: '10.0.0.1:8000', grpc: undefined }]]);
    expect(commandsFor(servers, placed, () => false)).toStrictEqual([]);
    expect(commandsFor(servers, placed, (slot) => slot === 2)).toStrictEqual(['set server rest/n2 state maint']);
    expect(commandsFor(servers, placed)).toStrictEqual(['set server rest/n2 state maint']);
  });
});

describe('the report about a cluster', () => {
  const model = (
    name: string,
    versions: readonly (readonly [number, number])[],
    more: Partial<NodeModel> = {},
  ): NodeModel => ({
    ...{ name, versions: versions.map(([version, bytes]) => ({ version, bytes })), loaded: [] },
    ...{ current: versions.at(-1)?.[0], ...more },
  });
  const view = (name: string, models: readonly NodeModel[], version = '1') => ({
    address: `${name}:8000`,
    report: { node: name, server: 'infermux', version, models } as unknown as NodeReport,
  });
  const differencesOf = (...views: Parameters<typeof clusterReport>[0]) => clusterReport(views).differences;

  it('says nothing where the nodes agree, and where models are loaded', () => {
    const report = clusterReport([
      view('a', [model('m', [[1, 5]], { loaded: [1] })]),
      view('b', [model('m', [[1, 5]])]),
    ]);
    expect(report.differences).toStrictEqual([]);
    expect(report.models).toStrictEqual([{ name: 'm', current: 1, loadedOn: ['a'] }]);
  });

  it('names each difference once, and who has what', () => {
    const one = view('a', [model('m', [[1, 5]])]);
    expect(differencesOf(one, view('b', []))).toStrictEqual(['model m: is served: yes on a; not at all on b']);
    expect(
      differencesOf(
        one,
        view('b', [
          model('m', [
            [1, 5],
            [2, 5],
          ]),
        ]),
      ),
    ).toStrictEqual(['model m: versions: 1 on a; 1, 2 on b']);
    expect(differencesOf(one, view('b', [model('m', [[1, 6]])]))).toStrictEqual([
      'model m: bytes of the versions: 1: 5 on a; 1: 6 on b',
    ]);
    const both = [
      [1, 5],
      [2, 5],
    ] as const;
    expect(differencesOf(view('a', [model('m', both)]), view('b', [model('m', both, { current: 1 })]))).toStrictEqual([
      'model m: current version: 2 on a; 1 on b',
    ]);
    expect(differencesOf(one, view('b', [model('m', [[1, 5]], { problem: 'torn' })]))).toStrictEqual([
      'model m: problem: none on a; torn on b',
    ]);
    expect(differencesOf(one, view('a', [model('m', [[1, 5]])], '2'))).toStrictEqual([
      'two nodes are named a: name each with --node-name',
      'the version of infermux: 1 on a; 2 on a',
    ]);
    expect(differencesOf(one, { address: 'x:1', problem: 'no' })).toStrictEqual(['x:1 does not answer: no']);
  });
});
