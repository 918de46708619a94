import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import type { InfermuxError } from '../../../dist/common/errors.js';
import { replicaEntry } from '../../../dist/replicas/threads/replica-entry.js';
import { directory } from '../../support/directories.js';

function refusal(...base: [string | undefined]): string {
  try {
    return `found ${replicaEntry(...base).href}`;
  } catch (error) {
    const { code, message } = error as InfermuxError;
    return `${code}: ${message}`;
  }
}

it('is a file of the package', () => {
  expect(existsSync(fileURLToPath(replicaEntry()))).toBe(true);
});

it('is found in a folder whose name must be encoded in a URL', () => {
  const root = directory({ 'my app #1 ü/dist/worker/replica-worker.js': '' });
  const folder = join(root, 'my app #1 ü', 'dist');
  const found = replicaEntry(pathToFileURL(join(folder, 'replicas', 'threads', 'replica-entry.js')).href);
  expect(fileURLToPath(found)).toBe(join(folder, 'worker', 'replica-worker.js'));
});

it.each([
  ['in another folder', 'file:///app/server/out/bundle.js', '/app/worker/replica-worker.js is missing'],
  ['of a bundler with URLs of its own', 'webpack://app/bundle.js', 'seen from webpack://app/bundle.js, is missing'],
  ['that is no URL', 'bundle.js', 'seen from bundle.js, is missing'],
])('is missing beside a bundle %s', (_, base, message) => {
  expect(refusal(base)).toMatch(
    /^FAILED_PRECONDITION: .*if this is a bundle, keep infermux and onnxruntime-node out of it/,
  );
  expect(refusal(base)).toContain(message);
  expect(refusal(base)).toContain('--external:infermux');
});
