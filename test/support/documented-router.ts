import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { RequestRouter } from '../../dist/contracts/request-router.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDER = join(ROOT, '.cache', 'documented-router');

/** Builds the router that the page about routing shows, from the text of the page. */
export async function documentedRouter(): Promise<RequestRouter> {
  const page = readFileSync(join(ROOT, 'docs', 'routing.md'), 'utf8');
  const code = /```js\n(\/\/ throughput-router\.mjs\n[\s\S]*?)```/.exec(page)?.[1];
  if (code === undefined) throw new Error('docs/routing.md shows no router');
  mkdirSync(FOLDER, { recursive: true });
  // Inside the package, so that the text can import the package by its name.
  const file = join(FOLDER, `throughput-router-${process.pid}.mjs`);
  writeFileSync(file, code);
  const { ThroughputRouter } = await import(pathToFileURL(file).href);
  return new ThroughputRouter();
}
