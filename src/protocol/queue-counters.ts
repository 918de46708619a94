/** A cache line, so that two replicas never write to the same one. */
const LINE_BYTES = 64;
const LINE_WORDS = LINE_BYTES / Int32Array.BYTES_PER_ELEMENT;
const LINE_DOUBLES = LINE_BYTES / Float64Array.BYTES_PER_ELEMENT;

/** Words of a line, which both threads write or wait for. */
const ONGOING = 0;
const IN_NATIVE_CALL = 1;
const STOP = 2;
const DISPATCHES = 3;
/** Doubles of a line, behind the words. Only the replica writes them, so a reader sees the old or the new value. */
const COMPLETED = 2;
const FAILED = 3;
const BYTES = 4;
/** More words of a line, behind the doubles. */
const POSTED = 10;
const BEGUN = 11;

/** Words of the first line, which all replicas read. */
const LINES_USED = 0;
const CATALOG_REVISION = 1;

/** What a replica's thread may still do. The level is only ever raised. */
export const STOP_LEVELS = {
  /** Everything. */
  none: 0,
  /** Release sessions, but neither run nor load. */
  stopping: 1,
  /** Nothing native: the process is exiting. */
  exiting: 2,
} as const;

export type StopLevel = (typeof STOP_LEVELS)[keyof typeof STOP_LEVELS];

/**
 * One replica's line of counters, seen by both threads.
 *
 * The calling thread adds to `ongoing` and `dispatches` before it posts requests, the replica subtracts before it posts
 * the answer, so a freed slot shows while the answer is still on its way. After each message the calling thread adds to
 * `posted`, which wakes the replica.
 *
 * `enterNativeCall` and `raiseStop` are two halves of one promise: once the stop is raised and no call is under way,
 * none will ever begin. The thread first counts itself in and then looks at the flag; the other side first raises the
 * flag and then looks at the count. All accesses are sequentially consistent, so at least one of them sees the other.
 */
export class ReplicaCounters {
  /** The lines of all replicas. */
  readonly #all: Int32Array;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  #stopRaised: (() => void) | undefined;

  constructor(memory: SharedArrayBuffer, slot: number) {
    const start = (slot + 1) * LINE_BYTES;
    this.#all = new Int32Array(memory);
    this.#words = new Int32Array(memory, start, LINE_WORDS);
    this.#doubles = new Float64Array(memory, start, LINE_DOUBLES);
  }

  get ongoing(): number {
    return Atomics.load(this.#words, ONGOING);
  }

  /** Dispatches with unfinished requests. */
  get dispatches(): number {
    return Atomics.load(this.#words, DISPATCHES);
  }

  /** Replicas with requests, other than this one. */
  get othersAtWork(): number {
    let count = this.dispatches > 0 ? -1 : 0;
    const lines = Atomics.load(this.#all, LINES_USED);
    for (let line = 1; line <= lines; line += 1) {
      if (Atomics.load(this.#all, line * LINE_WORDS + DISPATCHES) > 0) count += 1;
    }
    return count;
  }

  /** Changes whenever an id may stand for another model than before; wraps around. */
  get catalogRevision(): number {
    return Atomics.load(this.#all, CATALOG_REVISION);
  }

  get completed(): number {
    return this.#doubles[COMPLETED] ?? 0;
  }

  get failed(): number {
    return this.#doubles[FAILED] ?? 0;
  }

  /** Bytes of the models whose sessions the replica has. */
  get bytes(): number {
    return this.#doubles[BYTES] ?? 0;
  }

  get isInNativeCall(): boolean {
    return Atomics.load(this.#words, IN_NATIVE_CALL) !== 0;
  }

  dispatchGiven(requests: number): void {
    Atomics.add(this.#words, ONGOING, requests);
    Atomics.add(this.#words, DISPATCHES, 1);
  }

  dispatchDone(completed: number, failed: number): void {
    this.#doubles[COMPLETED] = (this.#doubles[COMPLETED] ?? 0) + completed;
    this.#doubles[FAILED] = (this.#doubles[FAILED] ?? 0) + failed;
    Atomics.sub(this.#words, ONGOING, completed + failed);
    Atomics.sub(this.#words, DISPATCHES, 1);
  }

  /** Messages of any kind that were posted to the thread; wraps around. */
  get posted(): number {
    return Atomics.load(this.#words, POSTED);
  }

  /** Wakes the thread if it sleeps. Call it after a message was posted. */
  messagePosted(): void {
    Atomics.add(this.#words, POSTED, 1);
    Atomics.notify(this.#words, POSTED);
  }

  /** Blocks this thread until `posted` differs from this value. */
  sleepUntilPosted(posted: number): void {
    Atomics.wait(this.#words, POSTED, posted);
  }

  /** Whether the thread has begun its life, and has received its port. */
  get hasBegun(): boolean {
    return Atomics.load(this.#words, BEGUN) !== 0;
  }

  threadBegan(): void {
    Atomics.store(this.#words, BEGUN, 1);
  }

  setBytes(bytes: number): void {
    this.#doubles[BYTES] = bytes;
  }

  /** Whether the thread must begin nothing more. */
  get isStopping(): boolean {
    return this.stopLevel !== STOP_LEVELS.none;
  }

  /**
   * Counts a native call as begun.
   *
   * @param highest the highest stop level at which the call may still begin.
   * @returns false when the call must not be made, because the thread must stop.
   */
  enterNativeCall(highest: StopLevel = STOP_LEVELS.none): boolean {
    Atomics.add(this.#words, IN_NATIVE_CALL, 1);
    if (this.stopLevel <= highest) return true;
    this.leaveNativeCall();
    return false;
  }

  leaveNativeCall(): void {
    Atomics.sub(this.#words, IN_NATIVE_CALL, 1);
    Atomics.notify(this.#words, IN_NATIVE_CALL);
  }

  get stopLevel(): StopLevel {
    return Atomics.load(this.#words, STOP) as StopLevel;
  }

  raiseStop(level: StopLevel): void {
    if (this.stopLevel >= level) return;
    Atomics.store(this.#words, STOP, level);
    this.#stopRaised?.();
  }

  /** Sets the listener for stops that are raised here. A thread sees them by itself; a process must be told. */
  onStop(listener: () => void): void {
    this.#stopRaised = listener;
  }

  /** Resolves when no native call is under way. */
  async untilOutsideNativeCall(): Promise<void> {
    for (;;) {
      const calls = Atomics.load(this.#words, IN_NATIVE_CALL);
      if (calls === 0) return;
      await Atomics.waitAsync(this.#words, IN_NATIVE_CALL, calls).value;
    }
  }

  /** Clears the line for its next replica. Call it only when the thread of the previous one is gone. */
  reset(): void {
    this.#stopRaised = undefined;
    for (let word = 0; word < LINE_WORDS; word += 1) Atomics.store(this.#words, word, 0);
    Atomics.notify(this.#words, IN_NATIVE_CALL);
  }
}

/** The lines of all replicas in one shared memory. The first free line is handed out first. */
export class QueueCounters {
  readonly memory: SharedArrayBuffer;
  readonly #shared: Int32Array;
  readonly #taken = new Set<number>();
  readonly #capacity: number;
  readonly #catalogListeners = new Set<() => void>();

  /** @param capacity how many replicas can have a line at once; 64 bytes each. */
  constructor(capacity: number) {
    this.memory = new SharedArrayBuffer((capacity + 1) * LINE_BYTES);
    this.#shared = new Int32Array(this.memory);
    this.#capacity = capacity;
  }

  /** @returns undefined when all lines are taken. */
  take(): { slot: number; counters: ReplicaCounters } | undefined {
    let slot = 0;
    while (this.#taken.has(slot)) slot += 1;
    if (slot >= this.#capacity) return undefined;
    this.#taken.add(slot);
    if (Atomics.load(this.#shared, LINES_USED) <= slot) Atomics.store(this.#shared, LINES_USED, slot + 1);
    const counters = new ReplicaCounters(this.memory, slot);
    counters.reset();
    return { slot, counters };
  }

  /** Frees the line. Call it only when the thread that used it is gone. */
  giveBack(slot: number): void {
    this.#taken.delete(slot);
  }

  /** As {@link ReplicaCounters.catalogRevision}. */
  get catalogRevision(): number {
    return Atomics.load(this.#shared, CATALOG_REVISION);
  }

  /** Tells threads that an id may stand for another model: they forget their answers and ask again. */
  catalogChanged(): void {
    Atomics.add(this.#shared, CATALOG_REVISION, 1);
    for (const listener of this.#catalogListeners) listener();
  }

  /** Calls the listener after each change of the catalog, until the function that it returns is called. */
  onCatalogChanged(listener: () => void): () => void {
    this.#catalogListeners.add(listener);
    return () => this.#catalogListeners.delete(listener);
  }
}
