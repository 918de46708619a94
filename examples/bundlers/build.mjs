import { resolve } from 'node:path';
import { build as esbuild } from 'esbuild';
import { build as vite } from 'vite';
import webpack from 'webpack';

/** The threads run files of these packages: a bundle must not swallow them. */
const EXTERNAL = ['infermux', 'onnxruntime-node'];
const ENTRY = 'src/main.mjs';

export const withEsbuild = (outfile) =>
  esbuild({
    entryPoints: [ENTRY],
    outfile,
    external: EXTERNAL,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });

export const withVite = (outfile) =>
  vite({
    configFile: false,
    logLevel: 'error',
    build: {
      ssr: ENTRY,
      outDir: 'dist',
      emptyOutDir: false,
      target: 'node20',
      rollupOptions: { external: EXTERNAL, output: { entryFileNames: outfile.replace('dist/', '') } },
    },
  });

/** @param external packages to leave out; fewer, to see what happens. */
export const withWebpack = (outfile, external = EXTERNAL) =>
  new Promise((done, failed) => {
    const config = {
      mode: 'production',
      target: 'node20',
      entry: resolve(ENTRY),
      experiments: { outputModule: true },
      output: { path: resolve('dist'), filename: outfile.replace('dist/', ''), module: true },
      externals: Object.fromEntries(external.map((name) => [name, `module ${name}`])),
    };
    webpack(config, (error, stats) => {
      if (error ?? stats.hasErrors()) failed(error ?? new Error(stats.toString()));
      else done();
    });
  });

if (process.argv[1] === import.meta.filename) {
  await Promise.all([withEsbuild('dist/esbuild.mjs'), withVite('dist/vite.mjs'), withWebpack('dist/webpack.mjs')]);
}
