import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

/** The examples, one after the other: each installs its packages, and runs its own tests. */
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    include: ['test/examples/**/*.test.ts'],
    maxWorkers: 1,
    testTimeout: 300_000,
  },
});
