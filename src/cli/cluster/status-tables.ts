import type { ClusterReport } from '../../cluster/status/cluster-report.js';
import { printable } from '../terminal/printable.js';
import { percent, renderFacts } from '../terminal/tables.js';

/** Rows of models that a screen has room for. */
const MOST_MODELS = 50;

export function statusTables({ nodes, models, differences }: ClusterReport): string {
  const head = ['node', 'address', 'state', 'ongoing', 'queued', 'req/s', 'cpu', 'replicas', 'loaded', 'models'];
  const nodeRows = nodes.map((node) => {
    if ('problem' in node) return ['?', node.address, 'no answer', ...Array(head.length - 3).fill('')];
    const { report, address } = node;
    const { load, replicas } = report;
    return [
      ...[report.node, address, report.draining ? 'draining' : report.ready ? 'ready' : 'not ready'],
      ...[load.ongoing, load.queued, load.requestsPerSecond.toFixed(0), percent(load.cpu)],
      ...[`${replicas.running} of ${replicas.target}`, report.models.filter(({ loaded }) => loaded.length > 0).length],
      report.models.length,
    ];
  });
  // Those that are loaded somewhere are of interest.
  const shown = [...models].sort((left, right) => right.loadedOn.length - left.loadedOn.length).slice(0, MOST_MODELS);
  const modelRows = shown.map(({ name, current, loadedOn }) => [
    name,
    current ?? 'none',
    loadedOn.join(', ') || 'nowhere',
  ]);
  const parts = [renderFacts(nodeRows, { head })];
  if (modelRows.length > 0) parts.push(renderFacts(modelRows, { head: ['model', 'version', 'loaded on'] }));
  if (models.length > shown.length) parts.push(`and ${models.length - shown.length} models more: --json has them all`);
  const heading = nodes.some((node) => 'problem' in node)
    ? 'Some nodes do not answer, or differ:'
    : 'The nodes differ:';
  parts.push(
    differences.length === 0
      ? 'The nodes agree.'
      : [heading, ...differences.map((difference) => `  ${printable(difference)}`)].join('\n'),
  );
  return parts.join('\n');
}
