import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { DemoReport } from '../../dist/cli/demo.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

const infermux = (...args: string[]) =>
  new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [MAIN, ...args], (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });

describe('infermux demo', () => {
  it('prints as JSON what it measured, in under 20 s and without a progress bar in a pipe', async () => {
    const startedAt = performance.now();
    const { code, stdout, stderr } = await infermux('demo', '--json');
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const report = JSON.parse(stdout) as DemoReport;
    expect(report).toMatchObject({ digits: 1_797, requests: 1_797 * 12 });
    expect(report.models).toHaveLength(12);
    for (const { id, requests, accuracyUnseen } of report.models) {
      expect(requests).toBe(1_797);
      expect(accuracyUnseen, id).toBeGreaterThanOrEqual(id === 'digits-mlp' ? 0.96 : 0.97);
    }
    expect(report.replicas).toHaveLength(2);
    for (const { requests, cacheHits, cacheMisses, loads, evictions } of report.replicas) {
      expect(cacheHits + cacheMisses).toBe(requests);
      expect(loads - evictions).toBe(3);
      expect(cacheMisses).toBeGreaterThanOrEqual(loads);
    }
    expect(report.replicas.reduce((sum, { requests }) => sum + requests, 0)).toBe(report.requests);
    expect(report.latencyMs.p50).toBeLessThanOrEqual(report.latencyMs.p99);
    expect(report.requestsPerSecond).toBeGreaterThan(0);
  }, 40_000);

  it('prints tables', async () => {
    const { stdout } = await infermux('demo');
    for (const text of ['digits-cnn', 'requests per second', 'event-loop delay', 'evictions'])
      expect(stdout).toContain(text);
  }, 40_000);
});

describe('the command line', () => {
  it('explains itself', async () => {
    const { code, stdout } = await infermux('--help');
    expect(code).toBe(0);
    expect(stdout).toContain('demo');
    expect((await infermux('demo', '--help')).stdout).toContain('--json');
  });

  it('names its version', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect((await infermux('--version')).stdout.trim()).toBe(version);
  });

  it.each([
    [['demo', '--jsn'], "unknown option '--jsn'"],
    [['dmo'], "unknown command 'dmo'"],
    [['demo', 'now'], 'too many arguments'],
    [[], 'Usage: infermux'],
  ])('%j exits with 2 and a sentence', async (args, sentence) => {
    const { code, stdout, stderr } = await infermux(...args);
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(sentence);
  });
});
