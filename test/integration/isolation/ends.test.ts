import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { endlessRunModel, modelDirectory, scaleModel } from '../../support/onnx-models.js';
import { processesWith } from '../../support/processes.js';
import { until } from '../../support/until.js';

const CHILD = fileURLToPath(new URL('../../support/isolated-child.mjs', import.meta.url));
const models = modelDirectory({ double: scaleModel(2), endless: endlessRunModel() });
const WAYS = ['exit', 'uncaught', 'sigterm', 'sigkill', 'destroy'] as const;
/** A thousand by hand. */
const ROUNDS = Number(process.env['INFERMUX_ROUNDS'] ?? 10);
/** A start takes half a second, so that ends come before, in and after it. */
const LATEST_MS = 1_500;
const GONE_MS = 2_000;
let marks = 0;

/** @param temporary the folder for temporary files. @returns the processes that are left. */
async function endBy(how: (typeof WAYS)[number], afterMs: number, temporary: string): Promise<number[]> {
  marks += 1;
  const mark = `${process.pid}-${marks}`;
  const child = spawn(process.execPath, [CHILD, how, models, mark, String(afterMs)], {
    ...{ stdio: 'ignore', env: { ...process.env, TMPDIR: temporary } },
  });
  await once(child, 'exit');
  const end = performance.now() + GONE_MS;
  let left = processesWith('ISOLATED_CHILD', mark);
  while (left.length > 0 && performance.now() < end) {
    await new Promise(setImmediate);
    left = processesWith('ISOLATED_CHILD', mark);
  }
  return left;
}

describe.runIf(process.platform === 'linux')('the processes of replicas', () => {
  it('are there while their engine is', async () => {
    const mark = `${process.pid}-there`;
    const child = spawn(process.execPath, [CHILD, 'exit', models, mark, '60000'], { stdio: 'ignore' });
    try {
      // Two replicas and a spare.
      await until(() => processesWith('ISOLATED_CHILD', mark).length === 3);
    } finally {
      child.kill('SIGKILL');
    }
    await until(() => processesWith('ISOLATED_CHILD', mark).length === 0);
  }, 60_000);

  it(
    `are gone 2 s after their engine's process, however that ends, also in a run that does not end: ${ROUNDS} times`,
    async () => {
      const temporary = mkdtempSync(join(tmpdir(), 'infermux-ends-'));
      const left: unknown[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        const how = WAYS[round % WAYS.length] as (typeof WAYS)[number];
        const afterMs = Math.floor(Math.random() * LATEST_MS);
        const pids = await endBy(how, afterMs, temporary);
        if (pids.length > 0) left.push([how, afterMs, pids]);
      }
      expect(left).toEqual([]);
      // Nor do they leave files.
      expect(readdirSync(temporary)).toEqual([]);
    },
    ROUNDS * 10_000,
  );
});
