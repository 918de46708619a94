import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

it('ships the build, the models and the documents, and nothing else', () => {
  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--dry-run', '--json'], { cwd: ROOT, encoding: 'utf8' }));
  const paths: string[] = packed.files.map(({ path }: { path: string }) => path);
  for (const needed of [
    'dist/index.js',
    'dist/index.d.ts',
    'dist/worker/replica-worker.js',
    'dist/cli/main.js',
    'dist/server/index.js',
    'dist/server/fastify.js',
    'dist/client/index.js',
    'proto/open_inference.proto',
    'proto/health.proto',
    'native-models/digits-mlp/model.onnx',
    'native-models/digits-mlp/model.json',
    'native-models/data/digits.csv.gz',
    'native-models/data/README.md',
    'docs/serving.md',
    'README.md',
    'CHANGELOG.md',
    'LICENSE',
  ]) {
    expect(paths).toContain(needed);
  }
  expect(paths.filter((path) => /node_modules|\.next|^examples\/[^/]+\/dist/.test(path))).toEqual([]);
  const folders = new Set(paths.map((path) => path.split('/')[0]));
  expect([...folders].sort()).toEqual([
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'LICENSE',
    'README.md',
    'deploy',
    'dist',
    'docs',
    'examples',
    'native-models',
    'package.json',
    'proto',
  ]);
});
