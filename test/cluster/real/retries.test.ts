import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Haproxy, serversUp, startHaproxy } from '../../support/cluster/haproxy.js';
import { isInstalled } from '../../support/cluster/hosts.js';
import { until } from '../../support/cluster/programs.js';
import { type Meeting, type RawRequest, StubNode, sendInParts } from '../../support/cluster/stub-node.js';

const INFER = '/v2/models/m/infer';

describe.skipIf(!isInstalled('haproxy'))('HAProxy with the generated configuration', () => {
  let stubs: StubNode[];
  let proxy: Haproxy;
  beforeAll(async () => {
    stubs = await Promise.all(Array.from({ length: 5 }, () => StubNode.start()));
    proxy = await startHaproxy(stubs.map(({ address }) => ({ http: address, grpc: address })));
    await until(async () => (await serversUp(proxy)).length === stubs.length, 'all stubs');
  });
  afterEach(() => {
    for (const stub of stubs) {
      stub.meeting = 200;
      stub.isSteady = true;
      stub.bodies.length = 0;
    }
  });
  afterAll(async () => {
    await proxy.stop();
    await Promise.all(stubs.map((stub) => stub.stop()));
  });

  /** Sends a request which all nodes meet so, and tells how often one has had it. */
  async function tries(meeting: Meeting, request: RawRequest) {
    for (const stub of stubs) stub.meeting = meeting;
    // Two closed connections in a row take a node out for a while: each request finds all there.
    await until(async () => (await serversUp(proxy)).length === stubs.length, 'all stubs');
    const { status, text } = await sendInParts(proxy.http, request);
    const had = stubs.flatMap(({ bodies }) => bodies);
    return {
      status,
      text,
      count: had.length,
      had: new Set(had),
      nodes: stubs.filter(({ bodies }) => bodies.length > 0).length,
    };
  }

  it('tries a run again at other nodes, also where its body comes after its headers', async () => {
    const body = 'x'.repeat(10_000);
    const { status, count, had, nodes } = await tries('close', { path: INFER, body });
    expect([status, count]).toStrictEqual([502, 4]);
    expect(nodes).toBeGreaterThan(1);
    expect(had).toStrictEqual(new Set([body]));
  });

  it('tries a run again that a node answers with 503, and nothing that it answers otherwise', async () => {
    expect(await tries(503, { path: INFER, body: '{}' })).toMatchObject({ status: 503, count: 4 });
    for (const stub of stubs) stub.bodies.length = 0;
    expect(await tries(429, { path: INFER, body: '{}' })).toMatchObject({ status: 429, count: 1 });
  });

  it.each([
    ['generates', { path: '/v2/models/m/generate', body: '{}' }],
    ['is marked', { path: INFER, body: '{}', headers: { 'x-infermux-retry': 'never' } }],
    ['is larger than what HAProxy keeps', { path: INFER, body: 'x'.repeat(40_000) }],
  ] as const)('does not try a request again that %s', async (_, request) => {
    const { status, count, text } = await tries('close', request);
    expect([status, count]).toStrictEqual([502, 1]);
    // HAProxy answers as nodes do.
    expect(text).toContain('content-type: application/json');
    expect(JSON.parse(text.split('\r\n\r\n')[1] as string)).toMatchObject({ code: 'REPLICA_FAILED' });
  });

  it('sends the requests for a model to one node, and others to several', async () => {
    const send = async (path: string, count: number) => {
      for (let sent = 0; sent < count; sent += 1) await sendInParts(proxy.http, { path, body: '{}' });
    };
    await send(INFER, 8);
    expect(stubs.filter(({ bodies }) => bodies.length > 0)).toHaveLength(1);
    await send('/v2/other', 20);
    expect(stubs.filter(({ bodies }) => bodies.length > 0).length).toBeGreaterThan(1);
  });

  it('does so also where most nodes lack processor time', async () => {
    for (const stub of stubs) stub.isSteady = false;
    await until(async () => (await serversUp(proxy)).length === 0, 'the probes');
    for (const [path, isModel] of [
      [INFER, true],
      ['/v2/other', false],
    ] as const) {
      for (let sent = 0; sent < 20; sent += 1)
        expect(await sendInParts(proxy.http, { path, body: '{}' })).toMatchObject({ status: 200 });
      const used = stubs.filter(({ bodies }) => bodies.length > 0).length;
      expect(used === 1).toBe(isModel);
      for (const stub of stubs) stub.bodies.length = 0;
    }
  });

  it('says in its log which requests have failed', async () => {
    await tries(200, { path: '/v2/models/quiet/infer', body: '{}' });
    await tries('close', { path: '/v2/models/logged/generate', body: '{}' });
    await until(() => proxy.program.output().includes('/v2/models/logged/generate'), 'a line of the log');
    expect(proxy.program.output()).not.toContain('/v2/models/quiet');
  });
});
