import { describe, expect, it } from 'vitest';
import { type Demand, demandOf, fitOf, type Taken, takenBeside } from '../../dist/deployments/capacity.js';

const MB = 2 ** 20;
const MACHINE = { cores: 4, totalBytes: 2_000 * MB, availableBytes: 1_000 * MB };
const NONE: Taken = { cores: 0, memoryBytes: 0, devices: new Map() };
const DEMAND: Demand = {
  ...{ from: 0, to: 2, cores: 1, memoryBytes: 10 * MB, isMemoryDeclared: false, devices: 0, deviceIds: [] },
  held: NONE,
};

describe('what fits', () => {
  it.each<[string, Partial<Demand>, Partial<Taken>, number, string | undefined]>([
    ['all', {}, NONE, 2, undefined],
    ['as many as there are cores', { to: 5 }, NONE, 4, '5 replicas would take 5 cores, and 4 of 4 are left: 4 fit'],
    ['beside others', { to: 5 }, { cores: 3, memoryBytes: 0 }, 1, 'and 1 of 4 are left: 1 fits'],
    ['parts of cores', { to: 8, cores: 0.5 }, NONE, 8, undefined],
    ['several cores', { to: 2, cores: 3 }, NONE, 1, '2 replicas would take 6 cores, and 4 of 4 are left: 1 fits'],
    ['none', { to: 1, cores: 5 }, NONE, 0, '1 replica would take 5 cores, and 4 of 4 are left: 0 fit'],
    [
      ...(['what is available', { from: 1, to: 4, memoryBytes: 600 * MB }, NONE, 2] as const),
      '4 replicas would take 1800 MB more, and 1000 MB of memory are left: 2 fit',
    ],
    [
      ...(['what others have not declared', { isMemoryDeclared: true, memoryBytes: 400 * MB }] as const),
      ...([{ cores: 0, memoryBytes: 1_500 * MB }, 1] as const),
      '2 replicas would take 800 MB, and 500 MB of memory are free: 1 fits',
    ],
    [
      'devices',
      { devices: 1, deviceIds: [3] },
      NONE,
      1,
      '2 replicas would take 2 devices, and 1 of 1 are left: 1 fits',
    ],
    ['parts of devices', { devices: 0.5, deviceIds: [0] }, NONE, 2, undefined],
    [
      'what others have left of devices',
      { devices: 0.5, deviceIds: [0, 1], to: 4 },
      {
        devices: new Map([
          [0, 0.7],
          [2, 1],
        ]),
      },
      2,
      '4 replicas would take 2 devices, and 1.3 of 2 are left: 2 fit',
    ],
    ['parts that are not exact', { to: 1, cores: 0.6 }, { cores: 3.4000000000000004 }, 1, undefined],
    ['what takes no more than before', { from: 6, to: 5, cores: 1, held: { ...NONE, cores: 6 } }, NONE, 5, undefined],
  ])('%s', (_, demand, taken, fits, reason) => {
    const fit = fitOf({ ...DEMAND, ...demand }, { ...NONE, ...taken }, MACHINE);
    expect(fit.fits).toBe(fits);
    if (reason === undefined) expect(fit.reason).toBe(undefined);
    else expect(fit.reason).toContain(reason);
  });
});

describe('what is counted', () => {
  const NOTHING = { memoryBytes: undefined, cores: undefined, devices: undefined };
  const running = [{ counters: { bytes: 30 * MB } }, { counters: { bytes: 10 * MB } }];
  const cpu = {
    name: 'cpu',
    options: { session: {}, resources: NOTHING, devices: undefined },
    targetReplicas: 3,
    running,
  };
  const gpu = {
    ...{ name: 'gpu', targetReplicas: 5, running: [] },
    options: { session: { executionProviders: ['cuda', 'cpu'] }, resources: NOTHING, devices: [0, 1] },
  };
  const declared = {
    ...{ name: 'declared', targetReplicas: 2, running: [] },
    options: { session: {}, resources: { memoryBytes: MB, cores: 0.5, devices: undefined }, devices: undefined },
  };

  it('is a core for each replica that computes on the CPU, and what is declared', () => {
    expect(takenBeside('none', [cpu, gpu, declared] as never)).toEqual({
      ...NONE,
      cores: 4,
      memoryBytes: 2 * MB,
      devices: new Map([
        [0, 0],
        [1, 0],
      ]),
    });
    expect(takenBeside('cpu', [cpu, gpu, declared] as never)).toMatchObject({ cores: 1, memoryBytes: 2 * MB });
  });

  it('is the memory that is declared, or what replicas hold on average', () => {
    const all = [cpu, gpu, declared] as never;
    expect(demandOf('cpu', cpu.options as never, { from: 1, to: 2 }, all)).toEqual({
      ...{ from: 1, to: 2, cores: 1, memoryBytes: 30 * MB, isMemoryDeclared: false, devices: 0, deviceIds: [] },
      held: { ...NONE, cores: 1 },
    });
    expect(demandOf('none', declared.options as never, { from: 0, to: 1 }, all)).toMatchObject({
      ...{ cores: 0.5, memoryBytes: MB, isMemoryDeclared: true },
    });
    expect(demandOf('gpu', gpu.options as never, { from: 0, to: 1 }, all)).toMatchObject({
      cores: 0,
      devices: 0,
      deviceIds: [0, 1],
    });
  });
});
