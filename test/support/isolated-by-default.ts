import { vi } from 'vitest';

/** Variables of the tests that replicas read. */
const VARIABLES = ['CRASH_MARKERS'];

// Every deployment that does not say otherwise has replicas that are processes.
vi.mock('../../dist/deployments/config/isolation.js', async (importOriginal) => {
  const original = await importOriginal<typeof import('../../dist/deployments/config/isolation.js')>();
  const byDefault = () => {
    const env = Object.fromEntries(VARIABLES.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
    return { kind: 'process', spares: 0, env, execArgv: ['--max-old-space-size=128'] } as const;
  };
  const resolveIsolation: typeof original.resolveIsolation = (where, isolation = byDefault()) =>
    original.resolveIsolation(where, isolation);
  return { ...original, resolveIsolation };
});
