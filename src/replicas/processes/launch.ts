import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ResolvedProcesses } from '../../contracts/isolation.js';
import { EXPRESS, type PROCESS_FILES } from '../../protocol/frames/frame-format.js';

/** How the processes of a deployment are started. */
export interface Launch extends Pick<ResolvedProcesses, 'env' | 'execArgv' | 'uid' | 'gid'> {
  /** Whether they go before others when there are not enough cores. */
  readonly isExpress: boolean;
}

export function launchOf({ env, execArgv, uid, gid }: ResolvedProcesses, isExpress: boolean): Launch {
  return { env, execArgv, uid, gid, isExpress };
}

/**
 * What a process needs of this one's environment, beside what the settings name: to find programs and libraries, to write
 * temporary files, and to print dates and texts. No secrets.
 */
const KEPT = new Set([
  ...['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'PWD', 'TMPDIR', 'TEMP', 'TMP', 'TZ', 'LANG', 'LANGUAGE'],
  ...['LD_LIBRARY_PATH', 'DYLD_LIBRARY_PATH', 'XDG_CACHE_HOME', 'XDG_DATA_HOME'],
  // Windows does not start a process without them.
  ...['SYSTEMROOT', 'SYSTEMDRIVE', 'WINDIR', 'COMSPEC', 'PATHEXT', 'APPDATA', 'LOCALAPPDATA', 'USERPROFILE'],
]);
const KEPT_PREFIXES = ['LC_', 'CUDA_', 'NVIDIA_', 'ORT_', 'OMP_', 'HIP_', 'ROCR_'];

/** @param own the environment of this process. */
export function environmentFor(
  own: Readonly<Record<string, string | undefined>>,
  added: Readonly<Record<string, string>>,
): Record<string, string | undefined> {
  const isKept = (name: string) =>
    KEPT.has(name.toUpperCase()) || KEPT_PREFIXES.some((prefix) => name.startsWith(prefix));
  // A process each would leave a file in the temporary folder, and send to its maker what it runs.
  return {
    ORT_DISABLE_TELEMETRY: '1',
    ...Object.fromEntries(Object.entries(own).filter(([name]) => isKept(name))),
    ...added,
  };
}

/**
 * Starts a process whose files 3, 4 and 5 are sockets: see {@link PROCESS_FILES}.
 *
 * @throws Error when no process can be started; most reasons come as the process's `error` instead.
 */
export function startProcess(program: URL, { env, execArgv, uid, gid, isExpress }: Launch): ChildProcess {
  // Its executable is the application, which would begin anew.
  if (process.getBuiltinModule?.('node:sea')?.isSea() === true)
    throw new Error("a single executable cannot start replicas as processes; use isolation: 'thread'");
  const args = isExpress ? [EXPRESS] : [];
  return spawn(process.execPath, [...execArgv, fileURLToPath(program.href), ...args], {
    env: environmentFor(process.env, env),
    // Not detached: Linux gives each session of processes its share of the cores, whatever their priority.
    stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe', 'pipe'],
    windowsHide: true,
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
  });
}
