import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

/** A Vulkan driver in software and its loader, which Debian's chromium brings along: slow, but a real execution provider. */
const CHROMIUM = '/usr/lib/chromium';
const DRIVER = `${CHROMIUM}/vk_swiftshader_icd.json`;
const CHILD = fileURLToPath(new URL('../support/webgpu-child.mjs', import.meta.url));
const MODELS = fileURLToPath(new URL('../../native-models', import.meta.url));
const LARGEST_DIFFERENCE = 1e-4;

describe.skipIf(!existsSync(DRIVER))(`a WebGPU deployment beside a CPU one (needs ${DRIVER})`, () => {
  it('gives the same answers, alone and in batches, also while it is updated', () => {
    // A process looks for its libraries when it starts.
    const env = { ...process.env, VK_DRIVER_FILES: DRIVER, LD_LIBRARY_PATH: CHROMIUM };
    const { status, stdout, stderr } = spawnSync(process.execPath, [CHILD, MODELS], { env, encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const { results, update } = JSON.parse(stdout);
    expect(update).toBe('reached');
    expect(results).toHaveLength(6);
    for (const { model, difference, deployments } of results) {
      expect(deployments).toEqual(['default', 'gpu']);
      expect(difference, model).toBeLessThan(LARGEST_DIFFERENCE);
    }
    expect(Math.max(...results.map(({ batch }: { batch: number }) => batch))).toBeGreaterThan(1);
  }, 120_000);
});
