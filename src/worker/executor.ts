import type { RunAnswer, RunMessage } from '../protocol/messages.js';
import { checkFeeds, checkOutputNames } from '../tensor.js';
import type { ModelMultiplexer } from './model-multiplexer.js';

/** Runs requests on the sessions of one replica. */
export class Executor {
  readonly #models: ModelMultiplexer;
  readonly #now: () => number;

  constructor(models: ModelMultiplexer, now: () => number) {
    this.#models = models;
    this.#now = now;
  }

  /** @throws InfermuxError whatever loading, checking or running refuses. */
  async run({ model, feeds, outputs, checked }: RunMessage): Promise<RunAnswer> {
    const lease = await this.#models.lease(model);
    try {
      if (!checked) {
        checkFeeds(model.id, feeds, lease.session.metadata.inputs);
        checkOutputNames(model.id, outputs, lease.session.metadata.outputs);
      }
      const startedAt = this.#now();
      const results = await lease.session.run(feeds, outputs);
      return { outputs: results, loadMs: lease.loadMs, runMs: this.#now() - startedAt };
    } finally {
      lease.giveBack();
    }
  }
}
