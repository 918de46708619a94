/** What each replica of a deployment is: a thread of this process, or a process of its own. */
export type Isolation = 'thread' | 'process' | ProcessIsolation;

/** Settings of replicas that are processes. */
export interface ProcessIsolation {
  readonly kind: 'process';
  /**
   * Most bytes of a replica's resident memory, with its models and its Node (about 70 MB). Beyond it the process is
   * killed, and its requests go on as after a crash. It is looked at ten times a second, on Linux alone. Default: no
   * limit.
   */
  readonly memoryLimitBytes?: number | undefined;
  /**
   * Milliseconds that one run may take; loads have `loadTimeoutMs`. Then the process is killed: a request that ran alone
   * gets `DEADLINE_EXCEEDED`, requests that ran together run once more, each alone. -1: no limit, the default.
   */
  readonly runTimeoutMs?: number | undefined;
  /**
   * Whether a run that nobody waits for any more, since its requests were cancelled or came too late, is killed when other
   * requests wait for a replica. Default false.
   */
  readonly killCancelled?: boolean | undefined;
  /** Processes that are started in advance, to take the place of dead ones; about 60 MB each. Default 1. */
  readonly spares?: number | undefined;
  /**
   * Environment variables of the processes, beside the few that a process needs: `PATH`, `HOME`, the time zone, the
   * language, and those of CUDA, OpenMP and the dynamic linker.
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
