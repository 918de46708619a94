import { describe, expect, it } from 'vitest';
import type { DoctorReport } from '../../dist/cli/doctor/doctor.js';
import type { Facts } from '../../dist/cli/doctor/facts.js';
import { findingsOf } from '../../dist/cli/doctor/findings.js';
import { infermux, infermuxWith } from '../support/infermux.js';

const GB = 2 ** 30;

/** A machine on which all is well. */
const WELL: Facts = {
  node: '22.11.0',
  platform: 'linux x64',
  glibc: '2.36',
  onnxruntime: { version: '1.30.0' },
  hasTwoRuntimes: false,
  providers: [{ name: 'cpu', problem: undefined }],
  processor: 'a processor',
  features: ['avx2', 'fma'],
  cores: 8,
  coreQuota: undefined,
  memory: { total: 16 * GB, free: 8 * GB, limit: undefined, heap: 4 * GB },
  openFiles: 1_048_576,
  weightStore: { directory: '/var/cache/infermux', problem: undefined, freeBytes: 50 * GB },
  mallocThreshold: '1048576',
};

describe('the findings', () => {
  it('are all well where nothing is to be done', () => {
    const findings = findingsOf(WELL);
    expect(findings.map(({ what }) => what)).toStrictEqual([
      ...['Node.js', 'C library', 'onnxruntime-node', 'provider cpu', 'processor', 'cores', 'memory', 'weight store'],
    ]);
    expect(findings.every(({ verdict, advice }) => verdict === 'ok' && advice === undefined)).toBe(true);
  });

  const cases: [string, Partial<Facts>, string, string, string][] = [
    ['an old Node.js', { node: '20.18.3' }, 'Node.js', 'problem', 'install Node.js 20.19 or later'],
    ['a Node.js that is not tested', { node: '23.1.0' }, 'Node.js', 'note', 'tested on 20, 22, 24'],
    ['musl', { glibc: undefined }, 'C library', 'problem', 'instead of Alpine'],
    ['no runtime', { onnxruntime: { problem: 'Cannot find module' } }, 'onnxruntime-node', 'problem', 'npm install'],
    ['an old runtime', { onnxruntime: { version: '1.29.3' } }, 'onnxruntime-node', 'problem', '@^1.30'],
    ['two runtimes', { hasTwoRuntimes: true }, 'onnxruntime-node', 'warning', 'npm dedupe'],
    ['no model that runs', { providers: [{ name: 'cpu', problem: 'x' }] }, 'provider cpu', 'problem', 'again'],
    ['no GPU', { providers: [{ name: 'cuda', problem: 'no library' }] }, 'provider cuda', 'note', 'CUDA'],
    ['an old processor', { features: ['avx'] }, 'processor', 'warning', 'AVX2'],
    ['a quota of the container', { coreQuota: 2.5 }, 'cores', 'warning', 'replicas: 2'],
    ['a small quota', { coreQuota: 0.5 }, 'cores', 'warning', 'replicas: 1'],
    ['little memory', { memory: { ...WELL.memory, limit: GB / 4, heap: GB / 8 } }, 'memory', 'warning', '512 MB'],
    ['a heap beyond the memory', { memory: { ...WELL.memory, limit: 2 * GB } }, 'memory', 'warning', '=1024'],
    [
      'a store that cannot be written',
      { weightStore: { directory: '/ro', problem: 'EROFS', freeBytes: undefined } },
      ...(['weight store', 'warning', 'weightStore.directory'] as const),
    ],
    [
      'a full disk',
      { weightStore: { directory: '/x', problem: undefined, freeBytes: 1e6 } },
      ...(['weight store', 'warning', 'weightStore.directory'] as const),
    ],
    ['few open files', { openFiles: 1_024 }, 'open files', 'note', 'ulimit -n'],
    ["glibc's default", { mallocThreshold: undefined }, 'malloc', 'note', 'MALLOC_MMAP_THRESHOLD_'],
  ];
  it.each(cases)('say what to do about %s', (_, change, what, verdict, advice) => {
    const finding = findingsOf({ ...WELL, ...change }).find((each) => each.what === what);
    expect(finding).toMatchObject({ verdict });
    expect(finding?.advice).toContain(advice);
  });

  it('ask for glibc on Linux alone', () => {
    const mac = findingsOf({ ...WELL, platform: 'darwin arm64', glibc: undefined, features: [] });
    expect(mac.map(({ what }) => what)).not.toContain('C library');
    expect(mac.every(({ verdict }) => verdict === 'ok')).toBe(true);
  });
});

describe('infermux doctor', () => {
  it('says that infermux works here, which it does', async () => {
    const { code, stdout, stderr } = await infermux('doctor', '--json');
    expect({ code, stderr }).toStrictEqual({ code: 0, stderr: '' });
    const { isWell, findings } = JSON.parse(stdout) as DoctorReport;
    expect(isWell).toBe(true);
    const verdicts = Object.fromEntries(findings.map(({ what, verdict }) => [what, verdict]));
    expect(verdicts).toMatchObject({ 'Node.js': 'ok', 'onnxruntime-node': 'ok', 'provider cpu': 'ok' });
  });

  it('says that a weight store cannot be where a file is', async () => {
    const { stdout } = await infermuxWith({ XDG_CACHE_HOME: '/dev/null' }, 'doctor', '--json');
    const { findings } = JSON.parse(stdout) as DoctorReport;
    expect(findings.find(({ what }) => what === 'weight store')?.verdict).toBe('warning');
  });

  it('prints a line for each finding, and below it what to do', async () => {
    const { stdout } = await infermux('doctor');
    expect(stdout).toMatch(/^ok +Node\.js +\d+\./m);
    expect(stdout).toMatch(/^ +→ /m);
    expect(stdout.trimEnd()).toMatch(/infermux works here\.$/);
  });
});
