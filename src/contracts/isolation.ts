/** What each replica of a deployment is: a thread of this process, or a separate process. */
export type Isolation = 'thread' | 'process' | ProcessIsolation;

/** Settings of replicas that are processes. */
export interface ProcessIsolation {
  readonly kind: 'process';
  /**
   * Maximum resident memory of a replica in bytes, including its models and Node (about 80 MB, half of it shared). A
   * process that uses more is killed, and its requests run again as after a crash. Checked ten times a second. Linux
   * only. Default: no limit.
   */
  readonly memoryLimitBytes?: number | undefined;
  /**
   * Maximum milliseconds of one run. If a run takes longer, its process is killed: a request that ran alone fails with
   * `DEADLINE_EXCEEDED`, requests that ran together run once more, each alone. With a handler: maximum milliseconds
   * without a sign of life from the process; it is killed between one and two times `runTimeoutMs` after the last one.
   * Loads have `loadTimeoutMs`. Default -1: no limit.
   */
  readonly runTimeoutMs?: number | undefined;
  /**
   * Whether to kill a run whose requests were all cancelled or are past their deadline, if other requests need a
   * replica. Default false.
   */
  readonly killCancelled?: boolean | undefined;
  /** Number of spare processes that replace dead ones; about 60 MB each. Default 1. */
  readonly spares?: number | undefined;
  /**
   * Environment variables of the processes, in addition to the few that each process gets: `docs/isolation.md` lists
   * them.
   */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Options of Node for the processes, such as `--permission`. Default: none. */
  readonly execArgv?: readonly string[] | undefined;
  /** User id that the processes run as; this process must be allowed to set it. */
  readonly uid?: number | undefined;
  /** Group id that the processes run as; this process must be allowed to set it. */
  readonly gid?: number | undefined;
}

/** The same with every default filled in. */
export type ResolvedIsolation = 'thread' | ResolvedProcesses;

export interface ResolvedProcesses {
  readonly kind: 'process';
  /** Undefined: no limit. */
  readonly memoryLimitBytes: number | undefined;
  /** -1: no limit. */
  readonly runTimeoutMs: number;
  readonly killCancelled: boolean;
  readonly spares: number;
  readonly env: Readonly<Record<string, string>>;
  readonly execArgv: readonly string[];
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}
