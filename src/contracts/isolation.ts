/** What each replica of a deployment is: a thread of this process, or a process of its own. */
export type Isolation = 'thread' | 'process' | ProcessIsolation;

/** Settings of replicas that are processes. */
export interface ProcessIsolation {
  readonly kind: 'process';
  /**
   * Most bytes of a replica's resident memory, with its models and its Node (about 80 MB, of which it shares a half). A
   * process that has more is killed, and its requests go on as after a crash. Checked ten times a second. Linux only.
   * Default: no limit.
   */
  readonly memoryLimitBytes?: number | undefined;
  /**
   * Milliseconds that one run may take. A run that takes longer is killed with its process: a request that ran alone gets
   * `DEADLINE_EXCEEDED`, requests that ran together run once more, each alone. With a handler: milliseconds that its
   * process may give no sign of life; it is killed after one to two times that. Loads have `loadTimeoutMs`. -1: no limit,
   * the default.
   */
  readonly runTimeoutMs?: number | undefined;
  /**
   * Kills a run that nobody waits for any more, since its requests were cancelled or came too late, when other requests
   * need a replica. Default false.
   */
  readonly killCancelled?: boolean | undefined;
  /** Processes that are started in advance, to take the place of dead ones; about 60 MB each. Default 1. */
  readonly spares?: number | undefined;
  /**
   * Environment variables of the processes, beside the few that each process gets: `docs/isolation.md` lists them.
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
