import { LatencyFit } from '../../common/estimates/latency-fit.js';
import { fromErrorRecord } from '../../common/values/error-record.js';
import { type BatchingPolicy, mostBatchMs, mostRowsOf, whyNotBatched } from '../../contracts/batching.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import { type Call, splitOutputs, toPacked } from '../../protocol/call-answers.js';
import type { RequestGroup } from '../../protocol/messages.js';
import { areAlike, areSameNames } from '../../tensors/alike.js';
import { commonRows, type Outputs, type Tensor, type TensorFeeds } from '../../tensors/tensor.js';
import type { Executor } from '../runs/executor.js';
import type { Session } from '../sessions/session.js';

/** What is known of joining the runs of one session. */
interface Joining {
  readonly session: Session;
  readonly policy: BatchingPolicy;
  readonly mayJoin: boolean;
  readonly times: LatencyFit;
  /** Whether a batch was found equal to single runs. */
  isProven: boolean;
  /** Whether a batch was found unlike them. */
  isOff: boolean;
}

interface WaitingRun {
  readonly joining: Joining;
  readonly model: ModelReference;
  readonly feeds: TensorFeeds;
  readonly rows: number;
  readonly outputs: readonly string[] | undefined;
  resolve(outputs: Outputs): void;
  reject(cause: unknown): void;
}

/**
 * Joins what the requests of a handler run in one turn of the event loop, by the rules by which the requests of a model
 * are joined. The executor runs it.
 */
export class JoinedRuns {
  readonly #executor: Executor;
  readonly #joinings = new WeakMap<Session, Joining>();
  #waiting: WaitingRun[] = [];

  constructor(executor: Executor) {
    this.#executor = executor;
  }

  /** Whether runs of the session are joined with others. */
  mayJoin(session: Session, policy: BatchingPolicy): boolean {
    const { mayJoin, isOff } = this.#joiningOf(session, policy);
    return mayJoin && !isOff;
  }

  /**
   * Runs the model together with what else is run in this turn.
   *
   * @param session of the model, which {@link mayJoin}; the caller has leased it.
   */
  run(
    model: ModelReference,
    session: Session,
    policy: BatchingPolicy,
    feeds: TensorFeeds,
    outputs: readonly string[] | undefined,
  ): Promise<Outputs> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) setImmediate(() => void this.#runAll());
      const joining = this.#joiningOf(session, policy);
      this.#waiting.push({ joining, model, feeds, rows: commonRows(feeds), outputs, resolve, reject });
    });
  }

  #joiningOf(session: Session, policy: BatchingPolicy): Joining {
    const known = this.#joinings.get(session);
    if (known?.policy === policy) return known;
    const mayJoin = policy.isEnabled && whyNotBatched(session.metadata, policy.isOwn) === undefined;
    const { times = new LatencyFit(), isProven = false, isOff = false } = known ?? {};
    const joining = { session, policy, mayJoin, times, isProven, isOff };
    this.#joinings.set(session, joining);
    return joining;
  }

  async #runAll(): Promise<void> {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (let [first] = waiting; first !== undefined; [first] = waiting) await this.#runGroup(takeGroup(first, waiting));
  }

  async #runGroup(runs: readonly WaitingRun[]): Promise<void> {
    const [{ joining, model }] = runs as [WaitingRun];
    const group = groupOf(runs);
    try {
      const verify = joining.policy.verify && !joining.isProven && runs.length > 1;
      const { calls, verification } = await this.#executor.runOn(joining.session, { model, groups: [group], verify });
      if (verification !== undefined) {
        joining.isProven = verification.mismatch === undefined;
        joining.isOff = !joining.isProven;
      }
      let index = 0;
      for (const call of calls[0] ?? []) {
        const own = runs.slice(index, index + call.requests);
        index += call.requests;
        if (call.error === undefined) joining.times.add(Math.max(1, rowsOf(own)), call.runMs);
        settle(own, call, group.rows);
      }
    } catch (cause) {
      for (const { reject } of runs) reject(cause);
    }
  }
}

/** Takes the first run from the list, and those that can be joined with it. */
function takeGroup(first: WaitingRun, waiting: WaitingRun[]): WaitingRun[] {
  const { joining, rows, feeds, outputs } = first;
  const estimate = joining.times.estimate();
  const { policy, isOff } = joining;
  const mostRows = isOff ? 0 : mostRowsOf(policy, estimate, mostBatchMs(policy.targetLatencyMs, estimate, rows));
  const group: WaitingRun[] = [];
  let all = 0;
  for (let index = 0; index < waiting.length; ) {
    const run = waiting[index] as WaitingRun;
    const belongs =
      run === first ||
      (run.joining === joining &&
        rows > 0 &&
        run.rows > 0 &&
        all + run.rows <= mostRows &&
        areSameNames(outputs, run.outputs) &&
        areAlike(feeds, run.feeds, 1));
    if (!belongs) {
      index += 1;
      continue;
    }
    group.push(run);
    all += run.rows;
    waiting.splice(index, 1);
  }
  return group;
}

/** The runs as one group, in the memory of their feeds: the executor joins it. */
function groupOf(runs: readonly WaitingRun[]): RequestGroup {
  const [{ feeds, outputs }] = runs as [WaitingRun];
  const isJoined = runs.length > 1;
  const inputs = Object.entries(feeds).map(([name, { type, dims }]) => {
    const parts = runs.map((run) => (run.feeds[name] as Tensor).data);
    const all = isJoined ? [rowsOf(runs), ...dims.slice(1)] : dims;
    return type === 'string'
      ? { name, type, dims: all, data: parts.flat() as string[] }
      : { name, type, dims: all, parts, given: [] };
  });
  const rows = isJoined ? runs.map((run) => run.rows) : undefined;
  return { requests: runs.length, rows, inputs, outputs, checked: true };
}

function rowsOf(runs: readonly WaitingRun[]): number {
  return runs.reduce((sum, run) => sum + run.rows, 0);
}

function settle(runs: readonly WaitingRun[], { outputs, error, parts }: Call, rows: RequestGroup['rows']): void {
  if (outputs === undefined) {
    for (const { reject } of runs) reject(error === undefined ? new Error('no outputs') : fromErrorRecord(error));
    return;
  }
  const [only] = runs;
  if (runs.length === 1) {
    only?.resolve(outputs);
    return;
  }
  const all = splitOutputs(toPacked(outputs, parts), runs.length, rows);
  for (const [index, run] of runs.entries()) run.resolve(all[index] as Outputs);
}
