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
    ...pathsUp(unified).map((path) => read(`${ROOT}${path}/cpu.max`)),
    ...pathsUp(old).map((path) =>
      ['quota', 'period'].map((name) => read(`${ROOT}/cpu${path}/cpu.cfs_${name}_us`)).join(' '),
    ),
  ].flatMap((text) => {
    const [, quota, period] = /^(\d+)\s+(\d+)/.exec(text) ?? [];
    return quota === undefined ? [] : [Number(quota) / Number(period)];
  });
  return quotas.length === 0 ? undefined : Math.min(...quotas);
}

/** The path, and those above it; the last one is empty. In a container the path may not be there, but the root is. */
function pathsUp(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '');
  return Array.from({ length: parts.length + 1 }, (_, up) =>
    parts
      .slice(0, parts.length - up)
      .map((part) => `/${part}`)
      .join(''),
  );
}
