import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { NatsConnection } from '@nats-io/transport-node';
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest';
import { membership } from '../../../bench/cluster/membership.js';
import { modelsDirectory } from '../../../bench/cluster/setting.js';
import { NodeAnnouncer } from '../../../dist/cluster/membership/announcer.js';
import { listSlots, openBucket } from '../../../dist/cluster/membership/bucket.js';
import { type Members, MemberWatch } from '../../../dist/cluster/membership/members.js';
import { connectNats } from '../../../dist/cluster/nats/nats-connection.js';
import type { ClusterReport } from '../../../dist/cluster/status/cluster-report.js';
import { serversUp, startHaproxy } from '../../support/cluster/haproxy.js';
import { isInstalled, LOOPBACK } from '../../support/cluster/hosts.js';
import { NatsServer } from '../../support/cluster/nats.js';
import { Node } from '../../support/cluster/nodes.js';
import { startProgram, until } from '../../support/cluster/programs.js';
import { directory } from '../../support/directories.js';

const CLI = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
const hasServers = isInstalled('haproxy') && isInstalled('nats-server');

/** Runs `infermux cluster status`. */
async function status(...args: readonly string[]): Promise<{ code: number; text: string }> {
  const run = promisify(execFile)(process.execPath, [CLI, 'cluster', 'status', ...args]);
  return run.then(
    ({ stdout }) => ({ code: 0, text: stdout }),
    (error: { code: number; stdout: string; stderr: string }) => ({
      code: error.code,
      text: error.stdout + error.stderr,
    }),
  );
}
const statusOf = async (...args: readonly string[]) =>
  JSON.parse((await status('--json', ...args)).text) as ClusterReport;

describe.skipIf(!hasServers)('nodes that announce themselves', () => {
  it('get requests within a second when they come, and none more when they go', async () => {
    for (const { failed, failure, joinMs, leaveMs } of await membership(2)) {
      expect([failed, failure]).toStrictEqual([0, undefined]);
      expect(joinMs).toBeLessThanOrEqual(1_000);
      expect(leaveMs).toBeLessThanOrEqual(1_000);
    }
  });

  describe('in a cluster', () => {
    let nats: NatsServer;
    let nodes: Node[];
    beforeAll(async () => {
      nats = await NatsServer.start();
      const flags = ['--nats', nats.url];
      const [same, other] = [modelsDirectory(2), modelsDirectory(3)];
      nodes = await Promise.all([same, same, other].map((models) => Node.start(LOOPBACK, { models, flags })));
      // They are ready without NATS, too.
      const connection = await connectNats(nats.url, 'test');
      const areAnnounced = async () => (await listSlots(connection).catch(() => [])).length === nodes.length;
      await until(areAnnounced, 'all nodes to be announced');
      await connection.close();
    });
    afterAll(async () => {
      await Promise.all(nodes.map((node) => node.stop()));
      await nats.stop();
    });

    it('are shown with what they do not agree on', async () => {
      const [first, second, third] = nodes as [Node, Node, Node];
      const agreeing = await status('--nodes', `${first.http},${second.http}`);
      expect(agreeing).toMatchObject({ code: 0, text: expect.stringContaining('The nodes agree.') });
      await fetch(`http://${first.http}/v2/models/m2`);
      const { differences, models, nodes: shown } = await statusOf('--nats', nats.url);
      expect(differences).toStrictEqual([expect.stringMatching(/^model m3: is served: (not at all|yes) on /)]);
      expect(differences[0]).toContain(`yes on ${third.http}`);
      expect(models.find(({ name }) => name === 'm2')).toStrictEqual({
        name: 'm2',
        current: 1,
        loadedOn: [first.http],
      });
      expect(shown).toHaveLength(3);
      const tables = await status('--nats', nats.url);
      expect(tables).toMatchObject({ code: 1, text: expect.stringContaining('The nodes differ:') });
      const gone = await statusOf('--nodes', `${first.http},127.0.0.1:2`);
      expect(gone.differences).toStrictEqual([
        expect.stringContaining('127.0.0.1:2 does not answer: connect ECONNREFUSED'),
      ]);
    });

    it('keep their slots and HAProxy, whatever is started again', async () => {
      let proxy = await startHaproxy([], undefined, { slots: 4 });
      const config = ['cluster', 'config', 'haproxy', '--nats', nats.url, '--socket', proxy.socket];
      let follower = startProgram([process.execPath, CLI, ...config]);
      onTestFailed(async () => {
        const outputs = [follower, proxy.program, ...nodes.map(({ program }) => program)].map(({ output }) => output());
        const stat = await proxy.ask('show servers state').catch(String);
        process.stderr.write(`${[...outputs, stat].join('\n---\n')}\n`);
      });
      await until(async () => (await serversUp(proxy)).length === 3, 'all nodes');
      // The servers of the other backends are set after those of REST.
      await until(async () => (await serversUp(proxy, 'grpc')).length === 3, 'all nodes in gRPC');
      // They are up until probes have failed: these must have succeeded.
      const rows = async () => (await proxy.ask('show stat')).split('\n').filter((row) => /^grpc\w*,n[123],/.test(row));
      await until(
        async () => (await rows()).filter((row) => row.includes(',L7OK,')).length === 9,
        'the probes of gRPC',
      );
      // The server goes away and comes back: nothing changes.
      await nats.stop('SIGKILL');
      const stoppedAt = performance.now();
      await until(() => performance.now() > stoppedAt + 6_000, 'the time in which records expire');
      expect(follower.output()).not.toContain('gets no more requests');
      const [first] = nodes as [Node];
      const answer = await fetch(`http://${proxy.http}/v2/models/m1`);
      expect(answer.status).toBe(200);
      await nats.start();
      const startedAt = performance.now();
      // Whoever was not heard of by then would have been taken for gone.
      await until(() => performance.now() > startedAt + 6_000, 'the time in which records expire');
      expect(follower.output()).not.toContain('gets no more requests');
      // A node dies, and is started again.
      const before = await serversUp(proxy);
      await first.kill();
      await until(async () => (await serversUp(proxy)).length === 2, 'the others');
      await first.start();
      await until(async () => (await serversUp(proxy)).length === 3, 'all nodes');
      expect(await serversUp(proxy)).toStrictEqual(before);
      // HAProxy is started again, and knows nobody.
      // A follower that is started again disturbs nobody.
      follower.kill('SIGTERM');
      expect(await follower.exited).toBe(0);
      follower = startProgram([process.execPath, CLI, ...config]);
      await first.stop();
      await until(() => follower.output().includes('gets no more requests'), 'the node that leaves');
      const said = new Set([...follower.output().matchAll(/n\d gets no more requests/g)].map(([text]) => text));
      expect(said.size).toBe(1);
      await first.start();
      await until(async () => (await serversUp(proxy)).length === 3, 'all nodes');
      const { socket } = proxy;
      await proxy.stop();
      proxy = await startHaproxy([], undefined, { slots: 4, socket });
      await until(async () => (await serversUp(proxy)).length === 3, 'all nodes');
      follower.kill('SIGTERM');
      expect(await follower.exited).toBe(0);
      await proxy.stop();
    });
  });

  it('start and end without the server, and are announced when it is there', async () => {
    const nats = await NatsServer.start();
    await nats.stop();
    const models = modelsDirectory(1);
    const lonely = await Node.start(LOOPBACK, { models, flags: ['--nats', nats.url] });
    lonely.program.kill('SIGTERM');
    expect(await lonely.program.exited).toBe(0);
    const [patient, other] = await Promise.all(
      ['1', '2'].map(() => Node.start(LOOPBACK, { models, flags: ['--nats', nats.url] })),
    );
    await nats.start();
    const announced = async () => (await statusOf('--nats', nats.url).catch(() => undefined))?.nodes.length;
    await until(async () => (await announced()) === 2, 'both nodes');
    // The server is away at the end.
    await nats.stop('SIGKILL');
    for (const node of [patient, other]) {
      const began = performance.now();
      node?.program.kill('SIGTERM');
      expect(await node?.program.exited).toBe(0);
      expect(performance.now() - began).toBeLessThan(3_000);
    }
  });

  it('that follow one directory agree on a version soon after it is there', async () => {
    const models = directory();
    const file = fileURLToPath(new URL('../../../native-models/digits-mlp/model.onnx', import.meta.url));
    const put = (version: string) => {
      mkdirSync(join(models, 'm', `.${version}`), { recursive: true });
      cpSync(file, join(models, 'm', `.${version}`, 'model.onnx'));
      renameSync(join(models, 'm', `.${version}`), join(models, 'm', version));
    };
    put('1');
    const nodes = await Promise.all(['1', '2'].map(() => Node.start(LOOPBACK, { models, flags: ['--poll', '1'] })));
    const list = nodes.map(({ http }) => http).join();
    expect(await statusOf('--nodes', list)).toMatchObject({ models: [{ name: 'm', current: 1 }], differences: [] });
    put('2');
    await until(async () => {
      const { models: found, differences } = await statusOf('--nodes', list);
      // Until then they say where they differ.
      for (const difference of differences) expect(difference).toMatch(/^model m: versions: [12](, 2)? on /);
      return differences.length === 0 && found[0]?.current === 2;
    }, 'version 2 on both');
    await Promise.all(nodes.map((node) => node.stop()));
  });

  it('have a slot at once where they start together, and are known together though they write meanwhile', async () => {
    const nats = await NatsServer.start();
    const [asking, ...connections] = await Promise.all([0, 1, 2, 3].map(() => connectNats(nats.url, 'test')));
    const troubles: string[] = [];
    const ignored = () => undefined;
    const log = { trouble: (message: string) => void troubles.push(message), warn: ignored, moved: ignored };
    const load = { ongoing: 0, queued: 0, cpu: 0 };
    const announceAll = () =>
      Promise.all(
        connections.map((connection, index) => {
          const record = { node: `n${index}`, http: `127.0.0.1:${index + 1}`, version: '1', ready: true, load };
          return NodeAnnouncer.start(connection, () => record, log);
        }),
      );
    // One of them makes the bucket: which one is chance.
    for (let round = 0; round < 40; round += 1) {
      const announcers = await announceAll();
      expect(announcers.map(({ slot }) => slot).sort()).toStrictEqual([1, 2, 3]);
      await Promise.all(announcers.map((announcer) => announcer.leave()));
      await (await openBucket(asking as NatsConnection)).destroy();
    }
    const announcers = await announceAll();
    let isOver = false;
    const writing = announcers.map(async (announcer) => {
      while (!isOver) await announcer.tell();
    });
    for (let round = 0; round < 40; round += 1) {
      let watch: MemberWatch | undefined;
      const first = await new Promise<Members>((resolve) => {
        watch = MemberWatch.start(asking as NatsConnection, resolve, (message) => void troubles.push(message));
      });
      watch?.stop();
      expect([...first.keys()]).toStrictEqual([1, 2, 3]);
    }
    isOver = true;
    await Promise.all(writing);
    expect(troubles).toStrictEqual([]);
    await Promise.all(announcers.map((announcer) => announcer.leave()));
    await Promise.all([asking, ...connections].map((connection) => connection?.close()));
    await nats.stop();
  });

  it('take lower slots when most of the others have gone, and keep theirs otherwise', async () => {
    const nats = await NatsServer.start();
    const warnings: string[] = [];
    const log = {
      ...{ trouble: () => undefined, moved: () => undefined },
      warn: (message: string) => void warnings.push(message),
    };
    const announce = async (node: string, port: number) => {
      const connection = await connectNats(nats.url, 'test');
      const load = { ongoing: 0, queued: 0, cpu: 0 };
      const record = { node, http: `127.0.0.1:${port}`, version: '1', ready: true, load };
      return { connection, announcer: await NodeAnnouncer.start(connection, () => record, log) };
    };
    const nodes: Awaited<ReturnType<typeof announce>>[] = [];
    for (const port of [1, 2, 3, 4]) nodes.push(await announce(port === 4 ? 'n3' : `n${port}`, port));
    const slots = () => nodes.map(({ announcer }) => announcer.slot);
    expect(slots()).toStrictEqual([1, 2, 3, 4]);
    // It is announced all the same.
    expect(warnings).toStrictEqual(['another node is named n3, at 127.0.0.1:3: name each with --node-name']);
    const leave = async (node: (typeof nodes)[number] | undefined) => {
      await node?.announcer.leave();
      await node?.connection.close();
    };
    await Promise.all(nodes.splice(0, 2).map(leave));
    const leftAt = performance.now();
    await until(() => performance.now() > leftAt + 11_000, 'a look at the slots');
    expect(slots()).toStrictEqual([3, 4]);
    await leave(nodes.splice(0, 1)[0]);
    await until(() => slots()[0] === 1, 'the lowest slot');
    const connection = await connectNats(nats.url, 'test');
    await until(async () => (await listSlots(connection)).join() === '1', 'the old slot to be free');
    await connection.close();
    await leave(nodes[0]);
    await nats.stop();
  }, 60_000);

  it('are announced again when the server has refused them for a while', async () => {
    const nats = await NatsServer.start();
    const node = await Node.start(LOOPBACK, { models: modelsDirectory(1), flags: ['--nats', nats.url] });
    const announced = async () => (await statusOf('--nats', nats.url).catch(() => undefined))?.nodes.length;
    await until(async () => (await announced()) === 1, 'the node');
    await nats.stop();
    await nats.start(['--user', 'somebody', '--pass', 'secret']);
    await until(() => node.program.output().includes('refuses the user or the password'), 'the refusal');
    expect(await status('--nats', nats.url)).toMatchObject({
      code: 1,
      text: expect.stringContaining('refuses the user or the password'),
    });
    await nats.stop();
    await nats.start();
    await until(async () => (await announced()) === 1, 'the node again');
    await node.stop();
    await nats.stop();
  });

  it('say clearly that no server answers', async () => {
    const { code, text } = await status('--nats', 'nats://user:secret@127.0.0.1:1');
    expect([code, text]).toStrictEqual([1, expect.stringContaining('no NATS server answers at 127.0.0.1:1')]);
    expect(text).not.toContain('secret');
  });
});
