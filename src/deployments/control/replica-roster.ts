import type { Clock } from '../../common/clock.js';
import type { Replica } from '../../replicas/replica.js';
import type { ReplicaPlace, ReplicaSettings } from '../../replicas/replica-pool.js';
import { isFinal } from '../../replicas/replica-state.js';
import { restartDelayMs } from '../../replicas/restart-backoff.js';
import type { ResolvedDeploymentOptions } from '../config/deployment-options.js';
import type { HandlerConfigs } from './handler-configs.js';
import type { PlaceSnapshot, PlaceState } from './reconcile.js';
import type { Target } from './target.js';

/** Reads from a deployment's places what a decision about them needs. */
export class ReplicaRoster {
  readonly #places: () => readonly ReplicaPlace[];
  readonly #clock: Clock;
  readonly #configs: Pick<HandlerConfigs, 'of'>;
  readonly #isInUse: (modelKey: string) => boolean;

  /** @param isInUse whether requests for a model are pending, or came a short while ago. */
  constructor(
    places: () => readonly ReplicaPlace[],
    configs: Pick<HandlerConfigs, 'of'>,
    clock: Clock,
    isInUse: (modelKey: string) => boolean,
  ) {
    this.#places = places;
    this.#configs = configs;
    this.#clock = clock;
    this.#isInUse = isInUse;
  }

  /** Replicas that take requests. */
  get running(): Replica[] {
    return this.#places().flatMap(({ replica }) => (replica?.state === 'running' ? [replica] : []));
  }

  snapshot({ configRevision }: Target): PlaceSnapshot[] {
    const { running } = this;
    const now = this.#clock.now();
    return this.#places().map((place) => {
      const { id, replica, revision, startsAt } = place;
      const config = this.#configs.of(place);
      const models = replica === undefined ? [] : [...replica.models.keys()];
      const isSole = (key: string) =>
        running.every((other) => other === replica || !other.models.has(key)) && this.#isInUse(key);
      return {
        id,
        state: placeState(place, config.refused === configRevision),
        revision,
        configRevision: config.revision,
        isReconfiguring: config.isReconfiguring,
        startsInMs: startsAt - now,
        // Counted only for decisions that need it: it looks at all models of all replicas.
        get soleModels() {
          return models.filter(isSole).length;
        },
        ongoing: replica?.ongoing ?? 0,
        models: models.length,
      };
    });
  }

  /** Whether the replicas match the target, and no other replica is left. */
  isReached(target: Target): boolean {
    const places = this.snapshot(target);
    return (
      places.length === target.replicas &&
      places.every(
        ({ state, revision, configRevision }) =>
          state === 'running' && revision === target.revision && configRevision === target.configRevision,
      )
    );
  }

  /** Milliseconds until a failed replica may be started again; undefined when none waits to be started. */
  nextStartInMs(): number | undefined {
    const waiting = this.#places().filter((place) => placeState(place, false) === 'waiting');
    if (waiting.length === 0) return undefined;
    return Math.ceil(Math.max(0, Math.min(...waiting.map(({ startsAt }) => startsAt)) - this.#clock.now()));
  }

  /** Milliseconds until the next start, when no replica runs after several failures in a row; undefined otherwise. */
  outageMs(): number | undefined {
    const places = this.#places().filter(({ isLeaving }) => !isLeaving);
    const isHopeless = ({ replica, failuresInRow }: ReplicaPlace) =>
      replica?.state !== 'running' && restartDelayMs(failuresInRow) > 0;
    return places.length > 0 && places.every(isHopeless) ? this.nextStartInMs() : undefined;
  }

  /** Settings of the next replica, with the device and the labels that the fewest replicas have. */
  settingsFor(
    revision: number,
    options: ResolvedDeploymentOptions,
    weightStore: ReplicaSettings['weightStore'],
  ): ReplicaSettings {
    const others = this.#places()
      .filter((place) => place.revision === revision && !place.isLeaving)
      .map(({ settings }) => settings);
    const device = leastUsed(options.devices ?? [], (id) => others.filter((other) => other.device === id).length);
    const labels = leastUsed(options.labels, (own) => others.filter((other) => hasLabels(other, own)).length) ?? {};
    return {
      eviction: options.eviction,
      maxModels: options.maxModelsPerReplica,
      maxModelBytes: options.maxModelBytesPerReplica,
      modelIdleTimeoutMs: options.modelIdleTimeoutMs,
      session: { ...options.session },
      device,
      weights: options.weights,
      weightStore,
      labels: device === undefined ? labels : { device: String(device), ...labels },
      handler: options.handler,
      userConfig: options.userConfig,
      handlerTimeouts: options.handlerTimeouts,
      isExpress: false,
      isolation: options.isolation,
    };
  }
}

/** @param isStuck whether the handler refused the target's configuration. */
export function placeState({ replica, isLeaving }: ReplicaPlace, isStuck: boolean): PlaceState {
  if (isLeaving) return 'draining';
  if (replica === undefined || isFinal(replica.state)) return 'waiting';
  if (replica.state === 'starting') return 'starting';
  return isStuck ? 'stuck' : 'running';
}

/** The first of the least used choices; undefined when there is no choice. */
function leastUsed<T>(choices: readonly T[], uses: (choice: T) => number): T | undefined {
  return choices.reduce<T | undefined>(
    (best, choice) => (best === undefined || uses(choice) < uses(best) ? choice : best),
    undefined,
  );
}

function hasLabels({ labels }: ReplicaSettings, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => labels[name] === value);
}
