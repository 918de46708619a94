import type { SessionWeights, WeightPlacement } from '../../contracts/model-reference.js';
import type { CallEnvironment, ReplicaCalls } from './replica-calls.js';

export interface WeightSettings {
  /** For models that set none. */
  readonly weights: WeightPlacement;
  /** Settings of sessions, for models that set none, key by key. */
  readonly session: Readonly<Record<string, unknown>>;
}

/** Where a replica's sessions have their weights, and how they change over from private to shared ones. */
export class ReplicaWeights {
  readonly settings: WeightSettings;
  readonly #environment: CallEnvironment;
  readonly #calls: ReplicaCalls;
  #sharing = 0;

  constructor({ weights, session }: WeightSettings, environment: CallEnvironment, calls: ReplicaCalls) {
    this.settings = { weights, session };
    this.#environment = environment;
    this.#calls = calls;
  }

  /** Where the weights of this session are; undefined without such a session, and while it is loading. */
  of(key: string): SessionWeights | undefined {
    const { states, shared } = this.#environment.models;
    if (states.get(key) !== 'loaded') return undefined;
    return shared.has(key) ? 'shared' : 'private';
  }

  /** Whether a session is giving way to another one. */
  get isSharing(): boolean {
    return this.#sharing > 0;
  }

  /**
   * Lets the session give way to one with shared weights, if they are prepared and nobody uses it. The replica
   * counts as loading meanwhile: it serves as before, but gets no other work.
   *
   * @throws InfermuxError the thread's error; `REPLICA_FAILED` when it gives no answer.
   */
  async share(key: string): Promise<void> {
    this.#sharing += 1;
    try {
      await this.#environment.models.during(key, () => this.#calls.ask({ kind: 'share', model: key }));
    } finally {
      this.#sharing -= 1;
    }
  }
}
