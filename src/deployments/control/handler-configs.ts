import { type Clock, settlesWithin, unlimited } from '../../common/clock.js';
import { InfermuxError } from '../../common/errors.js';
import type { ReplicaPlace } from '../../replicas/replica-pool.js';
import type { ResolvedDeploymentOptions } from '../config/deployment-options.js';

interface Config {
  revision: number;
  /** A revision that the handler refused. */
  refused: number | undefined;
  isReconfiguring: boolean;
}

/** Which revision of the user's configuration the handler in a place has. */
export type HandlerConfig = Readonly<Config>;

export interface HandlerConfigsObserver {
  /** A running handler refused the configuration, and keeps the one that it has. */
  refused(place: ReplicaPlace, error: InfermuxError, revision: number): void;
  /** A call of `reconfigure` ended, whether or not the handler took the configuration. */
  ended(): void;
}

/** Gives the user's configuration to the handlers of running replicas, and knows which one each has. */
export class HandlerConfigs {
  readonly #clock: Clock;
  readonly #observer: HandlerConfigsObserver;
  readonly #configs = new WeakMap<ReplicaPlace, Config>();

  constructor(clock: Clock, observer: HandlerConfigsObserver) {
    this.#clock = clock;
    this.#observer = observer;
  }

  of(place: ReplicaPlace): HandlerConfig {
    return this.#of(place);
  }

  /** The handler has this configuration, or is started with it. */
  taken(place: ReplicaPlace, revision: number): void {
    const config = this.#of(place);
    config.revision = revision;
    config.refused = undefined;
  }

  /** Handlers that refused a configuration are asked again. */
  forgetRefusals(places: readonly ReplicaPlace[]): void {
    for (const place of places) this.#of(place).refused = undefined;
  }

  /** Calls the handler's `reconfigure`. The observer is told of the outcome. */
  async reconfigure(
    place: ReplicaPlace,
    { userConfig, handlerTimeouts }: Pick<ResolvedDeploymentOptions, 'userConfig' | 'handlerTimeouts'>,
    revision: number,
  ): Promise<void> {
    const { reconfigureMs } = handlerTimeouts;
    const { replica } = place;
    const config = this.#of(place);
    config.isReconfiguring = true;
    try {
      const done = replica?.handler.reconfigure(userConfig) ?? Promise.resolve();
      if (!(await settlesWithin(this.#clock, done, unlimited(reconfigureMs)))) {
        const message = `the handler did not take its userConfig within ${reconfigureMs} ms`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      place.settings = { ...place.settings, userConfig };
      this.taken(place, revision);
    } catch (cause) {
      // A replica that died starts again with the configuration that it had.
      if (replica?.state === 'running') {
        config.refused = revision;
        this.#observer.refused(place, cause as InfermuxError, revision);
      }
    } finally {
      config.isReconfiguring = false;
      this.#observer.ended();
    }
  }

  #of(place: ReplicaPlace): Config {
    let config = this.#configs.get(place);
    if (config === undefined) {
      config = { revision: 0, refused: undefined, isReconfiguring: false };
      this.#configs.set(place, config);
    }
    return config;
  }
}
