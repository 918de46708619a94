import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { withEsbuild, withVite, withWebpack } from './build.mjs';

for (const [name, build] of Object.entries({ esbuild: withEsbuild, vite: withVite, webpack: withWebpack })) {
  test(`a bundle of ${name} runs`, async () => {
    await build(`dist/${name}.mjs`);
    assert.equal(execFileSync(process.execPath, [`dist/${name}.mjs`], { encoding: 'utf8' }), 'looks like a 1\n');
  });
}

/** Runs a bundle that has swallowed infermux. */
function assertAdvises(bundle) {
  const { status, stderr } = spawnSync(process.execPath, [bundle], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /keep infermux and onnxruntime-node out of it/);
}

test('a bundle of webpack that has swallowed infermux says at once what to do', async () => {
  await withWebpack('dist/swallowed-by-webpack.mjs', ['onnxruntime-node']);
  assertAdvises('dist/swallowed-by-webpack.mjs');
});

test('a bundle of esbuild that has swallowed infermux says at once what to do', async () => {
  const banner = "import { createRequire as from } from 'node:module'; const require = from(import.meta.url);";
  const { build } = await import('esbuild');
  await build({
    ...{ entryPoints: ['src/main.mjs'], outfile: 'dist/swallowed.mjs', bundle: true, platform: 'node', format: 'esm' },
    ...{ external: ['onnxruntime-node'], banner: { js: banner }, logLevel: 'silent' },
  });
  assertAdvises('dist/swallowed.mjs');
});
