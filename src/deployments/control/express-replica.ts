import type { Clock } from '../../common/clock.js';
import type { Replica } from '../../replicas/replica.js';
import {
  type ReplicaPlace,
  ReplicaPool,
  type ReplicaPoolObserver,
  type ReplicaSettings,
} from '../../replicas/replica-pool.js';
import type { ResolvedDeploymentOptions } from '../config/deployment-options.js';
import type { DeploymentEnvironment, DeploymentObserver } from '../deployment-environment.js';
import { ControlLoop } from './control-loop.js';
import { type ExpressPlace, type ExpressStep, expressStep } from './express-step.js';
import { placeState } from './replica-roster.js';
import type { Target } from './target.js';

export interface ExpressEnvironment extends Pick<DeploymentEnvironment, 'memory' | 'pool'> {
  /** The options in force. */
  readonly options: () => Pick<ResolvedDeploymentOptions, 'express' | 'gracefulShutdownTimeoutMs'>;
  /** The target of the replicas that it stands beside. */
  readonly target: () => Target;
  /** Number of these replicas that run. */
  readonly running: () => number;
  /** The settings of one more replica. */
  readonly settings: () => ReplicaSettings;
}

export type ExpressObserver = Omit<ReplicaPoolObserver, 'changed'> & Pick<DeploymentObserver, 'log'>;

/**
 * The express replica of a deployment, which takes short runs only: started while it is needed, with the settings of the
 * deployment's replicas, and stopped afterwards. It has a pool of its own, because it is none of these replicas: no
 * target, goal or bound counts it. A failed one is started again with the pool's pauses.
 */
export class ExpressReplica {
  readonly #deployment: string;
  readonly #environment: ExpressEnvironment;
  readonly #observer: ExpressObserver;
  readonly #clock: Clock;
  readonly #pool: ReplicaPool;
  readonly #loop: ControlLoop<ExpressStep>;
  #isNeeded = false;

  /** @param deployment the deployment's name; the replica's id is `<deployment>-express`. */
  constructor(deployment: string, environment: ExpressEnvironment, observer: ExpressObserver) {
    const { memory, pool } = environment;
    this.#deployment = deployment;
    this.#environment = environment;
    this.#observer = observer;
    this.#clock = pool.clock;
    this.#pool = new ReplicaPool(deployment, memory, pool, { ...observer, changed: () => this.look() });
    this.#loop = new ControlLoop(
      { next: () => this.#next(), perform: (step) => this.#perform(step), rest: () => this.#nextStartInMs() },
      this.#clock,
    );
  }

  /** Its place; undefined while there is none. */
  get place(): ReplicaPlace | undefined {
    return this.#pool.places[0];
  }

  /** It, while it takes requests. */
  get running(): Replica | undefined {
    const { replica } = this.place ?? {};
    return replica?.state === 'running' ? replica : undefined;
  }

  /** Says whether it is needed. It is started or stopped in the next turn: the caller may be amid its own decisions. */
  need(isNeeded: boolean): void {
    this.#isNeeded = isNeeded;
    this.#clock.nextTurn(() => this.look());
  }

  /** Call it whenever options, target or the other replicas changed. */
  look(): void {
    this.#loop.look();
  }

  /** Takes no step from now on. */
  halt(): void {
    this.#loop.stop();
  }

  /** Stops the replica, as {@link ReplicaPool.stop} does. Call {@link halt} before. */
  async stop(how: { hurry: boolean; graceMs: number }): Promise<void> {
    const { place } = this;
    if (place !== undefined) await this.#pool.stop(place, how);
  }

  /** Resolves when no thread is left. */
  untilGone(): Promise<void> {
    return this.#pool.untilGone();
  }

  #snapshot(): ExpressPlace | undefined {
    const { place } = this;
    return (
      place && {
        state: placeState(place, false),
        revision: place.revision,
        startsInMs: place.startsAt - this.#clock.now(),
      }
    );
  }

  #next(): ExpressStep | undefined {
    const { options, target, running } = this.#environment;
    const isAllowed = options().express !== false;
    const demand = { isNeeded: this.#isNeeded, isAllowed, target: target(), running: running() };
    return expressStep(demand, this.#snapshot());
  }

  #perform(step: ExpressStep): void {
    if (step.kind === 'start') {
      this.#pool.start(this.place ?? this.#add());
      return;
    }
    const { place } = this;
    if (place === undefined) return;
    const { reason } = step;
    this.#observer.log('info', { deployment: this.#deployment, replica: place.id, reason }, 'the express replica ends');
    void this.#pool.stop(place, { hurry: false, graceMs: this.#environment.options().gracefulShutdownTimeoutMs });
  }

  #add(): ReplicaPlace {
    const { target, settings } = this.#environment;
    const place = this.#pool.add(target().revision, { ...settings(), isExpress: true });
    const fields = { deployment: this.#deployment, replica: place.id };
    this.#observer.log('info', fields, 'short runs wait behind long ones: an express replica is started');
    return place;
  }

  /** Milliseconds until a failed one may be started again; undefined when time alone changes nothing. */
  #nextStartInMs(): number | undefined {
    const place = this.#snapshot();
    return place?.state === 'waiting' && place.startsInMs > 0 ? Math.ceil(place.startsInMs) : undefined;
  }
}
