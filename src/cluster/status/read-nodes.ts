import { InfermuxError, messageOf } from '../../common/errors.js';
import type { NodeReport } from '../../server/index.js';

/** What a node says of itself, or why it says nothing. */
export type NodeView =
  | { readonly address: string; readonly report: NodeReport }
  | { readonly address: string; readonly problem: string };

const TIMEOUT_MS = 5_000;
const MOST_MESSAGE = 200;

/** Asks each node. @param key sent as `Authorization: Bearer`; undefined: none. */
export function readNodes(addresses: readonly string[], key: string | undefined): Promise<NodeView[]> {
  return Promise.all(
    addresses.map(async (address) => {
      try {
        return { address, report: await readNode(address, key) };
      } catch (cause) {
        return { address, problem: messageOf(cause) };
      }
    }),
  );
}

async function readNode(address: string, key: string | undefined): Promise<NodeReport> {
  const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const base = address.includes('://') ? address : `http://${address}`;
  const response = await reach(`${base}/v2/node`, headers);
  const text = await response.text();
  if (!response.ok) throw new InfermuxError('FAILED_PRECONDITION', `${response.status} ${text.slice(0, MOST_MESSAGE)}`);
  const report = parse(text);
  if (report === undefined) throw new InfermuxError('FAILED_PRECONDITION', 'no infermux node answers there');
  return report;
}

async function reach(url: string, headers: Record<string, string>): Promise<Response> {
  try {
    return await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (cause) {
    // fetch hides what went wrong.
    const inner = (cause as { cause?: unknown }).cause ?? cause;
    if (!String((inner as { code?: unknown }).code).startsWith('HPE_')) throw inner;
    throw new InfermuxError('FAILED_PRECONDITION', `${messageOf(inner)}: is it the address of REST?`, { cause });
  }
}

function parse(text: string): NodeReport | undefined {
  try {
    const report = JSON.parse(text) as NodeReport;
    return report.server === 'infermux' && Array.isArray(report.models) ? report : undefined;
  } catch {
    return undefined;
  }
}
