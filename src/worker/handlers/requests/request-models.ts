import { check } from '../../../common/checks.js';
import { InfermuxError, readingInput, show } from '../../../common/errors.js';
import { checkModelId } from '../../../common/model-id.js';
import { handlerModel } from '../../../contracts/handler.js';
import type { ModelReference } from '../../../contracts/model-reference.js';
import type { DefinedModel } from '../../../protocol/messages.js';
import { areOutputNames } from '../../../tensors/check-feeds.js';
import { ownFeeds } from '../../../tensors/memory/own-feeds.js';
import { readFeeds } from '../../../tensors/read-feeds.js';
import type { Feeds, Outputs, ReadFeeds } from '../../../tensors/tensor.js';
import type { HeldLease } from '../../sessions/leases.js';
import type { ModelMultiplexer } from '../../sessions/model-multiplexer.js';
import type { Session } from '../../sessions/session.js';
import type { OwnModel } from '../handler-model-loader.js';
import type { ModelRuns } from '../model-runs.js';
import { unminded } from '../unminded.js';

export interface ModelResolver {
  /** Finds a model of the engine by the name that users give it. */
  resolve(target: string): Promise<DefinedModel>;
}

/** The models that one request of a handler uses. A model that it gets is held until the request ends. */
export class RequestModels {
  readonly #models: ModelMultiplexer;
  readonly #resolver: ModelResolver;
  readonly #runs: ModelRuns;
  /** Whether the handler loads models of its own: then `get` returns those. */
  readonly #areOwn: boolean;
  readonly #leases: HeldLease[] = [];
  #isOver = false;

  constructor(models: ModelMultiplexer, resolver: ModelResolver, runs: ModelRuns, areOwn: boolean) {
    this.#models = models;
    this.#resolver = resolver;
    this.#runs = runs;
    this.#areOwn = areOwn;
  }

  /** Runs a model of the engine. Like `engine.run`, it copies the feeds before it returns. */
  run(target: string, feeds: Feeds, outputs: readonly string[] | undefined): Promise<Outputs> {
    return onOwnFeeds(feeds, outputs, async (own, names) => {
      checkModelId(target);
      return this.#runs.run(await this.#resolver.resolve(target), own, names);
    });
  }

  /**
   * Returns the handler's own model, or a model of the engine with its metadata and `run`.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the request ended before the model was loaded.
   */
  async get(id: string): Promise<unknown> {
    checkModelId(id);
    if (this.#areOwn) return ((await this.#hold(id, handlerModel(id))) as OwnModel).value;
    const defined = await this.#resolver.resolve(id);
    const session = await this.#hold(id, defined.model);
    const { inputs, outputs, omittedOutputs } = session.metadata;
    const run = (feeds: Feeds, wanted?: readonly string[]) =>
      unminded(
        this.#isOver
          ? this.run(id, feeds, wanted)
          : // A held session stays loaded, whatever else is loaded or evicted.
            onOwnFeeds(feeds, wanted, (own, names) => this.#runs.run(defined, own, names, session)),
      );
    return { id, inputs, outputs, omittedOutputs, run };
  }

  async #hold(id: string, model: ModelReference): Promise<Session> {
    const lease = await this.#models.hold(model);
    if (this.#isOver) {
      await lease.giveBack();
      throw new InfermuxError('FAILED_PRECONDITION', `model ${show(id)} came after the request was answered`);
    }
    this.#leases.push(lease);
    return lease.session;
  }

  /** Ends the request: a model that is loaded later is given back at once. @returns the leases to give back. */
  end(): readonly HeldLease[] {
    this.#isOver = true;
    return this.#leases;
  }
}

/**
 * Runs a model on a copy of the feeds: the handler may change its arrays at once, and onnxruntime-node takes no shared
 * memory.
 */
async function onOwnFeeds(
  given: Feeds,
  outputs: readonly string[] | undefined,
  run: (feeds: ReadFeeds, outputs: readonly string[] | undefined) => Promise<Outputs>,
): Promise<Outputs> {
  const feeds = readFeeds(given);
  const { release } = ownFeeds(feeds);
  try {
    const names = outputs && readingInput('outputs', () => check('outputs', outputs, areOutputNames));
    return await run(feeds, names);
  } finally {
    release?.();
  }
}
