import { expect, it } from 'vitest';
import { coreQuota } from '../../dist/cli/doctor/core-quota.js';

const of = (files: Readonly<Record<string, string>>) => coreQuota((path) => files[path] ?? '');

it.each<[string, Readonly<Record<string, string>>, number | undefined]>([
  ['no control group', {}, undefined],
  ['a group without a limit', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, undefined],
  ['the group of a container', { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '250000 100000\n' }, 2.5],
  [
    'a service of systemd, in a slice that has a higher limit',
    {
      '/proc/self/cgroup': '0::/app.slice/infermux.service\n',
      '/sys/fs/cgroup/app.slice/infermux.service/cpu.max': '50000 100000\n',
      '/sys/fs/cgroup/app.slice/cpu.max': '400000 100000\n',
    },
    0.5,
  ],
  [
    'version 1',
    {
      '/proc/self/cgroup': '3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n1:memory:/\n',
      '/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us': '150000\n',
      '/sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us': '100000\n',
    },
    1.5,
  ],
  [
    'version 1 without a limit',
    {
      '/proc/self/cgroup': '1:cpu:/\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
    },
    undefined,
  ],
])('the cores that %s may use', (_, files, cores) => expect(of(files)).toBe(cores));
