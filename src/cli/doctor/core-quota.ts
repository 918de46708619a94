const ROOT = '/sys/fs/cgroup';

/**
 * Returns how many cores the control group of this process may use, a fraction perhaps; undefined without a limit. A
 * group is within others, of which each may have a limit.
 *
 * @param read returns the text of a file, and no text if there is none.
 */
export function coreQuota(read: (path: string) => string): number | undefined {
  const groups = read('/proc/self/cgroup').split('\n');
  const unified = groups.find((line) => line.startsWith('0::'))?.slice('0::'.length) ?? '/';
  const [, old = '/'] = groups.map((line) => /^\d+:(?:[^:]*,)?cpu(?:,[^:]*)?:(.*)$/.exec(line)).find(Boolean) ?? [];
  const quotas = [
    ...withParents(unified).map((path) => read(`${ROOT}${path}/cpu.max`)),
    ...withParents(old).map((path) =>
      ['quota', 'period'].map((name) => read(`${ROOT}/cpu${path}/cpu.cfs_${name}_us`)).join(' '),
    ),
  ].flatMap((text) => {
    const [, quota, period] = /^(\d+)\s+(\d+)/.exec(text) ?? [];
    return quota === undefined ? [] : [Number(quota) / Number(period)];
  });
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}

/** The path and those above it, from the root on, which is empty. In a container the path may not be there. */
function withParents(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '');
  return Array.from({ length: names.length + 1 }, (_, depth) => ['', ...names.slice(0, depth)].join('/'));
}
