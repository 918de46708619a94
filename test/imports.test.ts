import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** Small files that everybody may use; they may use each other. */
const COMMON = [
  ...['errors', 'check', 'tensor', 'feeds', 'batching', 'model-id', 'model-reference', 'session-settings'],
  ...['clock', 'failure-memory', 'buffer-pool', 'deployment-name', 'handler', 'in-turn'],
  ...['request-router', 'eviction', 'hash-point'],
];

/** Who may import whom, by folder or file of src/; packages by their name. */
const TABLE: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(COMMON.map((file) => [file, COMMON])),
  'keep-alive': [],
  protocol: COMMON,
  worker: [...COMMON, 'protocol', 'onnxruntime-node', 'lru-cache'],
  models: COMMON,
  routing: COMMON,
  replicas: [...COMMON, 'protocol', 'piscina'],
  deployments: [...COMMON, 'models', 'replicas'],
  endpoints: COMMON,
  observability: [...COMMON, 'protocol', 'pino', 'prom-client'],
  options: [...COMMON, 'deployments', 'models', 'env-paths', 'pino', 'prom-client'],
  'run-options': COMMON,
  targets: [...COMMON, 'deployments', 'models', 'replicas', 'routing'],
  requests: [...COMMON, 'routing', 'run-options'],
  'replica-events': [...COMMON, 'models', 'observability', 'protocol', 'replicas', 'routing'],
  'engine-checkpoint': [...COMMON, 'deployments', 'endpoints', 'models', 'options'],
  engine: [
    ...COMMON,
    ...[
      'deployments',
      'endpoints',
      'engine-checkpoint',
      'keep-alive',
      'models',
      'observability',
      'options',
      'replicas',
    ],
    ...['replica-events', 'requests', 'routing', 'run-options', 'status', 'targets', 'prom-client'],
  ],
  status: [...COMMON, 'deployments', 'models', 'replicas', 'targets'],
  index: [...COMMON, 'deployments', 'endpoints', 'engine', 'models', 'options', 'routing', 'run-options', 'status'],
  cli: [...COMMON, 'deployments', 'engine', 'models', 'cli-progress', 'cli-table3', 'commander', 'picocolors'],
};

/** Packages that one file alone may import. */
const SOLE_IMPORTERS: readonly (readonly [string, string, readonly string[]])[] = [
  ['onnxruntime-node', 'worker', ['worker/onnx-session.ts']],
  ['piscina', 'replicas', ['replicas/worker-thread.ts']],
  ['lru-cache', 'worker', ['worker/model-multiplexer.ts']],
];

interface Import {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const layerOf = (path: string) => path.replace(/\.[jt]s$/, '').split('/')[0] ?? path;

const imports: Import[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .flatMap((file) => {
    const text = readFileSync(join(SRC, file), 'utf8');
    const specifiers = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] as string);
    return specifiers
      .filter((specifier) => !specifier.startsWith('node:'))
      .map((specifier) => {
        const path = relative(SRC, join(SRC, dirname(file), specifier));
        return { file, from: layerOf(file), to: specifier.startsWith('.') ? layerOf(path) : specifier };
      });
  });

describe('the import table', () => {
  it('is kept by every file', () => {
    expect(imports.length).toBeGreaterThan(80);
    const broken = imports.filter(({ from, to }) => from !== to && !TABLE[from]?.includes(to));
    expect(broken).toEqual([]);
  });

  it('has no line that nobody needs', () => {
    const used = new Set(imports.map(({ from, to }) => `${from} ${to}`));
    const idle = Object.entries(TABLE).flatMap(([from, tos]) =>
      tos.filter((to) => !COMMON.includes(to) && !used.has(`${from} ${to}`)).map((to) => `${from} ${to}`),
    );
    expect(idle).toEqual([]);
  });

  it.each(SOLE_IMPORTERS)('%s is imported in %s by %j alone', (name, layer, files) => {
    const importers = imports.filter(({ from, to }) => from === layer && to === name).map(({ file }) => file);
    expect(new Set(importers)).toEqual(new Set(files));
  });

  it('leaves the making of threads and processes to Piscina', () => {
    const makers = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .filter((file) => {
        const text = readFileSync(join(SRC, file), 'utf8');
        return /\bnew Worker\b|node:(child_process|cluster)/.test(text);
      });
    expect(makers).toEqual([]);
  });
});
