import { setTimeout as sleep } from 'node:timers/promises';
import { MemberWatch } from '../../cluster/membership/members.js';
import { connectNats } from '../../cluster/nats/nats-connection.js';
import { type ClusterReport, clusterReport } from '../../cluster/status/cluster-report.js';
import { readNodes } from '../../cluster/status/read-nodes.js';
import { InfermuxError } from '../../index.js';
import { firstKey } from '../key-file.js';

/** Time for the members to be told. */
const MEMBERS_MS = 3_000;

interface Asked {
  readonly nodes: string | undefined;
  readonly nats: string | undefined;
  readonly apiKeys: string | undefined;
}

/** @throws InfermuxError `FAILED_PRECONDITION` when no node announces itself. */
export async function clusterStatus({ nodes, nats, apiKeys }: Asked): Promise<ClusterReport> {
  const addresses = nats === undefined ? (nodes ?? '').split(',').map((each) => each.trim()) : await announced(nats);
  return clusterReport(await readNodes(addresses, apiKeys === undefined ? undefined : firstKey(apiKeys)));
}

async function announced(url: string): Promise<string[]> {
  const connection = await connectNats(url, 'infermux cluster status');
  try {
    let told: (() => void) | undefined;
    const known = new Promise<void>((resolve) => (told = resolve));
    let trouble = '';
    const watch = MemberWatch.start(
      connection,
      () => told?.(),
      (message) => (trouble = `: ${message}`),
    );
    await Promise.race([known, sleep(MEMBERS_MS, undefined, { ref: false })]);
    watch.stop();
    const addresses = [...watch.members.values()].map(({ http, tls }) => (tls === true ? `https://${http}` : http));
    if (addresses.length > 0) return addresses;
    throw new InfermuxError(
      'FAILED_PRECONDITION',
      trouble === ''
        ? 'no node announces itself there: start some with infermux serve --nats'
        : `NATS does not tell who is there${trouble}`,
    );
  } finally {
    await connection.close();
  }
}
