import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/** What everybody may use; each may import those after it. */
const FOUNDATION = ['contracts', 'tensors', 'common'];

/** Who may import whom, by folder of src/, whose rooms count as the folder; packages by their name. */
const TABLE: Readonly<Record<string, readonly string[]>> = {
  common: [],
  tensors: ['common'],
  contracts: ['tensors', 'common'],
  protocol: FOUNDATION,
  worker: [...FOUNDATION, 'protocol', 'onnxruntime-node', 'lru-cache'],
  models: FOUNDATION,
  routing: FOUNDATION,
  replicas: [...FOUNDATION, 'protocol', 'piscina'],
  deployments: [...FOUNDATION, 'models', 'replicas'],
  endpoints: ['common'],
  observability: [...FOUNDATION, 'prom-client'],
  engine: [
    ...[...FOUNDATION, 'protocol', 'models', 'routing', 'replicas', 'deployments', 'endpoints', 'observability'],
    ...['env-paths', 'prom-client'],
  ],
  index: [...FOUNDATION, 'models', 'routing', 'deployments', 'endpoints', 'observability', 'engine'],
  // What the protocol is, for both of its sides. Neither loads the engine by it.
  'open-inference': [...FOUNDATION, 'protobufjs/minimal.js', '@grpc/proto-loader'],
  client: [...FOUNDATION, 'open-inference', 'index', '@grpc/grpc-js', '@grpc/proto-loader', 'undici'],
  // Its page runs in browsers, and imports types of the rest alone.
  console: [...FOUNDATION, 'index', 'uplot'],
  server: [
    ...[...FOUNDATION, 'index', 'console', 'open-inference', '@fastify/cors', '@grpc/grpc-js', '@grpc/proto-loader'],
    ...['@grpc/reflection', 'fastify', 'prom-client', 'protobufjs/minimal.js'],
  ],
  // It listens to channels, as anybody may.
  opentelemetry: [...FOUNDATION, 'index', '@opentelemetry/api'],
  cluster: [
    ...[...FOUNDATION, 'index', 'open-inference', 'server'],
    ...['@nats-io/jetstream', '@nats-io/kv', '@nats-io/transport-node'],
  ],
  cli: [
    ...[
      'tensors',
      'index',
      'open-inference',
      'server',
      'cluster',
      'console',
      'opentelemetry',
      '@nats-io/transport-node',
      'cli-progress',
      'cli-table3',
      'commander',
      'jiti',
      'picocolors',
      'pino',
    ],
  ],
};

/** Packages that one file alone may import. */
const SOLE_IMPORTERS: readonly (readonly [string, string])[] = [
  ['onnxruntime-node', 'worker/sessions/onnx-session.ts'],
  ['lru-cache', 'worker/sessions/resident-sessions.ts'],
  ['piscina', 'replicas/threads/pooled-thread.ts'],
];

interface Import {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const MOST_FILES_IN_A_ROOM = 12;

const layerOf = (path: string) => path.replace(/\.c?[jt]s$/, '').split('/')[0] ?? path;

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => /\.c?ts$/.test(file));
const textOf = (file: string) => readFileSync(join(SRC, file), 'utf8');

const imports: Import[] = files.flatMap((file) => {
  const specifiers = [...textOf(file).matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map(
    (match) => match[1] as string,
  );
  return specifiers
    .filter((specifier) => !specifier.startsWith('node:'))
    .map((specifier) => {
      const path = relative(SRC, join(SRC, dirname(file), specifier));
      return { file, from: layerOf(file), to: specifier.startsWith('.') ? layerOf(path) : specifier };
    });
});

describe('the import table', () => {
  it('is kept by every file', () => {
    expect(imports.length).toBeGreaterThan(400);
    const broken = imports.filter(({ from, to }) => from !== to && !TABLE[from]?.includes(to));
    expect(broken).toEqual([]);
  });

  it('has no line that nobody needs', () => {
    const used = new Set(imports.map(({ from, to }) => `${from} ${to}`));
    const idle = Object.entries(TABLE).flatMap(([from, tos]) =>
      tos.filter((to) => !FOUNDATION.includes(to) && !used.has(`${from} ${to}`)).map((to) => `${from} ${to}`),
    );
    expect(idle).toEqual([]);
  });

  it('names packages that users get with this one, whatever their package manager hoists', () => {
    const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(SRC, '../package.json'), 'utf8'));
    const given = Object.keys({ ...dependencies, ...peerDependencies });
    const packageOf = (name: string) =>
      name
        .split('/')
        .slice(0, name.startsWith('@') ? 2 : 1)
        .join('/');
    const wanted = imports.filter(({ to }) => !(to in TABLE)).map(({ to }) => packageOf(to));
    expect(wanted).toContain('protobufjs');
    expect([...new Set(wanted)].filter((name) => !given.includes(name))).toEqual([]);
  });

  it.each(SOLE_IMPORTERS)('lets %s be imported by %s alone', (name, file) => {
    const importers = imports.filter(({ to }) => to === name).map((each) => each.file);
    expect(new Set(importers)).toEqual(new Set([file]));
  });

  it('gives routing no clock and no chance of its own: only the public building block defaults to one', () => {
    const takes = /\b(setTimeout|setInterval|setImmediate|nextTick|Date\.now|performance\.now|Math\.random)\b/;
    const takers = files.filter((file) => file.startsWith('routing/') && takes.test(textOf(file)));
    expect(takers).toEqual(['routing/routers/ranks.ts']);
  });

  it('asks for the class of its own objects alone: a value of another realm is of none of this realm', () => {
    // `CommanderError` comes from the package that the command imports itself.
    const own = ['InfermuxError', 'OwnModel', 'ReadMetric', 'Malformed', 'CommanderError', 'Unreadable', 'SharedBytes'];
    const asked = files.flatMap((file) =>
      [...textOf(file).matchAll(/\binstanceof (\w+)/g)].map((match) => `${match[1]} in ${file}`),
    );
    expect(asked.length).toBeGreaterThan(10);
    expect(asked.filter((each) => !own.includes(each.split(' ')[0] as string))).toEqual([]);
    // It compares prototypes.
    expect(files.filter((file) => textOf(file).includes('isDeepStrictEqual('))).toEqual(['common/values/realm.ts']);
  });

  it('leaves the creation of threads of replicas to Piscina, and creates processes only for isolated replicas, for the models of a command, and to compile for the weight store', () => {
    const creates = /\bnew Worker\b|node:(child_process|cluster)/;
    expect(files.filter((file) => creates.test(textOf(file)))).toEqual([
      ...['cli/children/model-process.ts', 'replicas/processes/launch.ts', 'replicas/processes/replica-process.ts'],
      ...['replicas/sharing/compile-process.ts', 'worker/process/side-thread.ts'],
    ]);
  });
});

describe('the folders of src', () => {
  it('are the layers, and nothing but the public surface lies beside them', () => {
    expect(files.filter((file) => !file.includes('/'))).toEqual(['index.ts']);
    expect([...new Set(files.map(layerOf))].sort()).toEqual(Object.keys(TABLE).sort());
  });

  it('have at most twelve files in a room', () => {
    const rooms = new Map<string, number>();
    for (const file of files) rooms.set(dirname(file), (rooms.get(dirname(file)) ?? 0) + 1);
    expect([...rooms].filter(([, count]) => count > MOST_FILES_IN_A_ROOM)).toEqual([]);
  });

  it('have no file over 400 lines, and few over 300', () => {
    const linesOf = (file: string) => textOf(file).split('\n').length - 1;
    expect(files.filter((file) => linesOf(file) > 400)).toEqual([]);
    // One facade: its decisions are elsewhere.
    expect(files.filter((file) => linesOf(file) > 300)).toEqual(['routing/dispatcher.ts']);
  });
});
