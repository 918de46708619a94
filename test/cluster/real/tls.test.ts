import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DIGIT, modelsDirectory } from '../../../bench/cluster/setting.js';
import { type Certificates, makeCertificates } from '../../support/certificates.js';
import { type Haproxy, startHaproxy } from '../../support/cluster/haproxy.js';
import { freePort, isInstalled } from '../../support/cluster/hosts.js';
import { grpcSender, restSender } from '../../support/cluster/load.js';
import { NatsServer } from '../../support/cluster/nats.js';
import { CLI } from '../../support/cluster/nodes.js';
import { type Program, startProgram, until } from '../../support/cluster/programs.js';
import { directory } from '../../support/directories.js';

describe.skipIf(!['haproxy', 'nats-server', 'openssl'].every(isInstalled))('nodes with TLS', () => {
  let certificates: Certificates;
  let stranger: Certificates;
  let nats: NatsServer;
  let programs: Program[];
  let nodes: { readonly http: string; readonly grpc: string }[];

  beforeAll(async () => {
    certificates = makeCertificates(['node']);
    stranger = makeCertificates([]);
    nats = await NatsServer.start();
    const models = modelsDirectory(1);
    const ports = await Promise.all([1, 2, 3, 4].map(freePort));
    const address = (at: number) => `127.0.0.1:${ports[at]}`;
    nodes = [
      { http: address(0), grpc: address(1) },
      { http: address(2), grpc: address(3) },
    ];
    programs = nodes.map(({ http, grpc }) => {
      const own = ['--http-port', http.split(':')[1] ?? '', '--grpc-port', grpc.split(':')[1] ?? ''];
      const tls = ['--tls-key', certificates.file('node.key'), '--tls-cert', certificates.file('node.crt')];
      const more = ['--host', '127.0.0.1', '--replicas', '1', '--node-name', http, '--nats', nats.url];
      return startProgram([process.execPath, CLI, 'serve', models, ...own, ...tls, ...more]);
    });
  });
  afterAll(async () => {
    for (const program of programs) program.kill('SIGTERM');
    await Promise.all(programs.map(({ exited }) => exited));
    await nats.stop();
  });

  /** Waits until the probes of both nodes have ended so in each backend that has probes. */
  const probed = (proxy: Haproxy, pattern: RegExp, result: string) =>
    until(async () => {
      const rows = (await proxy.ask('show stat')).split('\n').filter((row) => pattern.test(row));
      return rows.length > 0 && rows.every((row) => new RegExp(`,(\\* )?${result},`).test(row));
    }, `${result} of all probes`);

  async function expectAnswers(proxy: Haproxy): Promise<void> {
    for (const sender of [restSender(proxy.http, DIGIT, 4), grpcSender(proxy.grpc, DIGIT)]) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => sender.send('m1')));
      expect(answers.map(({ failure }) => failure)).toStrictEqual(answers.map(() => undefined));
      await sender.close();
    }
  }

  it('answer behind HAProxy, which checks their certificates', async () => {
    const proxy = await startHaproxy(nodes, undefined, { nodeCa: certificates.file('ca.crt') });
    await probed(proxy, /^rest,n\d/, 'L7OK');
    await expectAnswers(proxy);
    await proxy.stop();
    const strict = await startHaproxy(nodes, undefined, { nodeCa: stranger.file('ca.crt') });
    await probed(strict, /^rest,n\d/, 'L6RSP');
    await strict.stop();
  });

  it('are found through NATS, and get nothing from a HAProxy without TLS', async () => {
    const nodeCa = certificates.file('ca.crt');
    const proxy = await startHaproxy([], undefined, { slots: 2, nodeCa, socket: `${directory()}/h.sock` });
    const config = ['cluster', 'config', 'haproxy', '--nats', nats.url, '--socket', proxy.socket];
    const follow = (...flags: readonly string[]) => startProgram([process.execPath, CLI, ...config, ...flags]);
    const plain = follow();
    await until(
      () => plain.output().split('gets no requests: it has TLS').length > 2,
      'the reason why both get nothing',
    );
    plain.kill('SIGTERM');
    await plain.exited;
    const follower = follow('--node-ca', nodeCa);
    await probed(proxy, /^(rest|grpc)\w*,n\d/, 'L7OK');
    await expectAnswers(proxy);
    follower.kill('SIGTERM');
    expect(await follower.exited).toBe(0);
    await proxy.stop();
  });
});
