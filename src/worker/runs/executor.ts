import { type ErrorRecord, toErrorRecord } from '../../common/values/error-record.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import { type Call, toPacked } from '../../protocol/call-answers.js';
import type { RequestGroup, Verification } from '../../protocol/messages.js';
import { singleFeeds } from '../../protocol/request-groups.js';
import { checkFeeds, checkOutputNames } from '../../tensors/check-feeds.js';
import { isTensorType, type ReadFeeds, setProperty, type Tensor, type TensorFeeds } from '../../tensors/tensor.js';
import type { ModelMultiplexer } from '../sessions/model-multiplexer.js';
import type { Session } from '../sessions/session.js';
import { type Batch, type BatchRun, runBatch, runSingly, uniformFeeds } from './batch-run.js';
import { areSameFeeds } from './compare.js';

/** Requests for one model. */
export interface Dispatch {
  readonly model: ModelReference;
  readonly groups: readonly RequestGroup[];
  /** Keys of models to evict before others if the model needs room. */
  readonly spare: readonly string[] | undefined;
  /** Compare batches with single runs. */
  readonly verify: boolean;
}

/** The outcome of one dispatch. */
export interface Execution {
  readonly loadMs: number;
  /** The calls made for each group. */
  readonly calls: readonly (readonly Call[])[];
  readonly verification: Verification | undefined;
}

/** Runs dispatches on the sessions of one replica. */
export class Executor {
  readonly #models: ModelMultiplexer;
  readonly #now: () => number;
  /** The request that the last proven uniform batch repeated: a batch of it alone needs no further proof. */
  readonly #provenUniform = new WeakMap<Session, TensorFeeds>();

  constructor(models: ModelMultiplexer, now: () => number) {
    this.#models = models;
    this.#now = now;
  }

  /** @throws InfermuxError when the model cannot be loaded or the thread must stop: then no request has an answer. */
  async run(dispatch: Dispatch): Promise<Execution> {
    const { model, groups, spare } = dispatch;
    let requests = 0;
    for (const group of groups) requests += group.requests;
    const lease =
      this.#models.leaseLoaded(model.key, requests) ?? (await this.#models.lease(model, { requests, spare }));
    try {
      return await this.runOn(lease.session, dispatch, lease.loadMs);
    } finally {
      lease.giveBack();
    }
  }

  /** Runs the groups on a session that the caller has leased. */
  async runOn(
    session: Session,
    { model, groups, verify }: Pick<Dispatch, 'model' | 'groups' | 'verify'>,
    loadMs = 0,
  ): Promise<Execution> {
    const calls: (readonly Call[])[] = [];
    let verification: Verification | undefined;
    for (const given of groups) {
      const group = given.checked ? given : fitted(model.id, given, session);
      const isFoundOut = verification?.mismatch !== undefined;
      if ('error' in group) calls.push(refused(given.requests, group.error));
      else if (!isBatch(group) || isFoundOut) calls.push(await runSingly(session, group, this.#now));
      else {
        const run = await this.#runBatch(session, group, verify);
        calls.push(run.calls);
        if (run.mismatch !== undefined) verification = { mismatch: run.mismatch ?? undefined };
      }
    }
    return { loadMs, calls, verification };
  }

  /** Correct answers to identical requests prove nothing about others: then `mismatch` is undefined. */
  async #runBatch(session: Session, batch: Batch, verify: boolean): Promise<BatchRun> {
    if (!verify) return runBatch(session, batch, false, this.#now);
    const uniform = uniformFeeds(batch);
    const known = this.#provenUniform.get(session);
    const isKnown = uniform !== undefined && known !== undefined && areSameFeeds(uniform, known);
    const run = await runBatch(session, batch, !isKnown, this.#now);
    if (uniform === undefined || run.mismatch !== null) return run;
    this.#provenUniform.set(session, copyOf(uniform));
    return { calls: run.calls, mismatch: undefined };
  }
}

/** Copies the feeds, without the rest of the memory that they are part of. */
function copyOf(feeds: TensorFeeds): TensorFeeds {
  const copy: Record<string, Tensor> = {};
  for (const name in feeds) {
    const tensor = feeds[name] as Tensor;
    setProperty(copy, name, { ...tensor, data: tensor.data.slice() } as Tensor);
  }
  return copy;
}

function isBatch(group: RequestGroup): group is Batch {
  return group.rows !== undefined;
}

/**
 * Returns the group with the types of the model's inputs, or why it does not fit the model: its requests are alike in all
 * that is checked.
 */
function fitted(modelId: string, group: RequestGroup, { metadata }: Session): RequestGroup | { error: ErrorRecord } {
  try {
    const [first = {}]: readonly ReadFeeds[] = singleFeeds(group);
    checkFeeds(modelId, first, metadata.inputs);
    checkOutputNames(modelId, group.outputs, metadata);
    // Elements without a type come in a group of one request.
    return group.inputs.every(({ type }) => isTensorType(type)) ? group : { ...group, inputs: toPacked(first) };
  } catch (cause) {
    return { error: toErrorRecord(cause) };
  }
}

function refused(requests: number, error: ErrorRecord): Call[] {
  return Array.from({ length: requests }, () => ({ requests: 1, runMs: 0, outputs: undefined, error }));
}
