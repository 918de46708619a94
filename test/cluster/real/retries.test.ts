import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { DIGIT } from '../../../bench/cluster/setting.js';
import { connect, type InfermuxError } from '../../../dist/client/index.js';
import { type Haproxy, serversUp, startHaproxy } from '../../support/cluster/haproxy.js';
import { isInstalled } from '../../support/cluster/hosts.js';
import { grpcSender } from '../../support/cluster/load.js';
import { until } from '../../support/cluster/programs.js';
import { type Meeting, type RawRequest, StubNode, sendInParts } from '../../support/cluster/stub-node.js';

const INFER = '/v2/models/m/infer';
const codeOfError = (error: InfermuxError) => error.code;

describe.skipIf(!isInstalled('haproxy'))('HAProxy with the generated configuration', () => {
  let stubs: StubNode[];
  let proxy: Haproxy;
  beforeAll(async () => {
    stubs = await Promise.all(Array.from({ length: 5 }, () => StubNode.start()));
    proxy = await startHaproxy(stubs);
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

  it.each(['REST', 'gRPC'])(
    'does not try an answer again that breaks off over %s: infermux/client does',
    async (protocol) => {
      const address = protocol === 'REST' ? `http://${proxy.http}` : `grpc://${proxy.grpc}`;
      const run = async (retries: number) => {
        for (const stub of stubs) stub.bodies.length = 0;
        for (const stub of stubs) stub.meeting = 'cut once';
        const client = await connect(address, { retries });
        const outcome = await client.run('m', { x: { dims: [1], data: Float32Array.of(1) } }).catch(codeOfError);
        await client.close();
        return { outcome, tries: stubs.flatMap(({ bodies }) => bodies).length };
      };
      expect(await run(0)).toStrictEqual({ outcome: 'REPLICA_FAILED', tries: 1 });
      expect(await run(1)).toStrictEqual({ outcome: {}, tries: 2 });
    },
  );

  it('tries a call again at other nodes, and then tells its client that it may do so', async () => {
    for (const stub of stubs) stub.meeting = 'close';
    const sender = grpcSender(proxy.grpc, DIGIT, 1);
    expect(await sender.send('m')).toMatchObject({ failure: '14 Stream refused by server' });
    expect(stubs.flatMap(({ bodies }) => bodies)).toHaveLength(4);
    await sender.close();
  });

  it.each([1, 3])(
    'answers calls that no node can take so that retry policies of gRPC apply: %i tries',
    async (tries) => {
      const stub = await StubNode.start();
      const gone = { http: stub.http, grpc: stub.grpc };
      await stub.stop();
      const lonely = await startHaproxy([gone]);
      const sender = grpcSender(lonely.grpc, DIGIT, 1, tries);
      expect(await sender.send('m')).toMatchObject({ failure: '14 no node can take the request' });
      const logged = () => lonely.program.output().split('/ModelInfer').length - 1;
      await until(() => logged() >= tries, 'lines of the log');
      expect(logged()).toBe(tries);
      await sender.close();
      await lonely.stop();
    },
  );

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
