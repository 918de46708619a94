import type { NodeReport } from '../../server/index.js';
import type { NodeView } from './read-nodes.js';

/** A model over all nodes. */
export interface ClusterModel {
  readonly name: string;
  /** The version that most nodes give to requests which name none; undefined where none does. */
  readonly current: number | undefined;
  /** Nodes that have it loaded. */
  readonly loadedOn: readonly string[];
}

/** All nodes together. */
export interface ClusterReport {
  readonly nodes: readonly NodeView[];
  readonly models: readonly ClusterModel[];
  /** What nodes do not agree on, and who cannot be reached: a sentence each. */
  readonly differences: readonly string[];
}

/** Compares what the nodes say. Nodes that follow one directory differ while they have not looked at it again. */
export function clusterReport(nodes: readonly NodeView[]): ClusterReport {
  const reports = nodes.flatMap((node) => ('report' in node ? [node.report] : []));
  const names = [...new Set(reports.flatMap(({ models }) => models.map(({ name }) => name)))].sort();
  const byName = reports.map((report) => new Map(report.models.map((model) => [model.name, model])));
  const of = (name: string) => reports.map((report, index) => ({ node: report.node, model: byName[index]?.get(name) }));
  return {
    nodes,
    models: names.map((name) => ({
      name,
      current: mostCommon(of(name).map(({ model }) => model?.current)),
      loadedOn: of(name).flatMap(({ node, model }) => ((model?.loaded.length ?? 0) > 0 ? [node] : [])),
    })),
    differences: [
      ...nodes.flatMap((node) => ('problem' in node ? [`${node.address} does not answer: ${node.problem}`] : [])),
      ...twoOfOneName(reports),
      ...differencesIn(
        'the version of infermux',
        reports.map(({ node, version }) => ({ node, value: version })),
      ),
      ...names.flatMap((name) => modelDifferences(name, of(name))),
    ],
  };
}

type Placed = { readonly node: string; readonly model: NodeReport['models'][number] | undefined };

function modelDifferences(name: string, places: readonly Placed[]): string[] {
  const facts = {
    // Not all nodes may have seen a new model.
    'is served': (model: Placed['model']) =>
      model === undefined || model.versions.length === 0 ? 'not at all' : 'yes',
    versions: (model: Placed['model']) => model?.versions.map(({ version }) => version).join(', '),
    'current version': (model: Placed['model']) => model?.current,
    'bytes of the versions': (model: Placed['model']) =>
      model?.versions.map(({ version, bytes }) => `${version}: ${bytes}`).join(', '),
    problem: (model: Placed['model']) => (model === undefined ? undefined : (model.problem ?? 'none')),
  };
  for (const [fact, read] of Object.entries(facts)) {
    const values = places.map(({ node, model }) => ({ node, value: read(model) }));
    const found = differencesIn(
      `model ${name}: ${fact}`,
      values.filter(({ value }) => value !== undefined),
    );
    // The others follow from it.
    if (found.length > 0) return found;
  }
  return [];
}

function differencesIn(
  what: string,
  values: readonly { readonly node: string; readonly value: string | number | undefined }[],
): string[] {
  const nodes = new Map<string, string[]>();
  for (const { node, value } of values) nodes.set(String(value), [...(nodes.get(String(value)) ?? []), node]);
  if (nodes.size < 2) return [];
  return [`${what}: ${[...nodes].map(([value, names]) => `${value} on ${names.join(', ')}`).join('; ')}`];
}

function twoOfOneName(reports: readonly NodeReport[]): string[] {
  const names = reports.map(({ node }) => node);
  const twice = [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
  return twice.map((name) => `two nodes are named ${name}: name each with --node-name`);
}

function mostCommon(values: readonly (number | undefined)[]): number | undefined {
  const counts = new Map<number, number>();
  for (const value of values) if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([, left], [, right]) => right - left)[0]?.[0];
}
