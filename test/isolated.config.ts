import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** Those that `npm run check` runs; all with INFERMUX_TESTS=all. */
const SOME = [
  ...['crashes', 'batching', 'routing', 'engine/runs', 'engine/arrays', 'engine/cancelling-and-closing'],
  ...['handlers/requests', 'handlers/batches', 'handlers/streams'],
];
const include =
  process.env['INFERMUX_TESTS'] === 'all'
    ? ['test/integration/**/*.test.ts']
    : SOME.map((name) => `test/integration/${name}.test.ts`);

/** The tests of engines once more, with replicas that are processes. */
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    include,
    env: { TEST_ISOLATION: 'process' },
    setupFiles: ['test/support/isolated-by-default.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
