import { InfermuxError } from '../../../dist/common/errors.js';
import type { ModelReplica, ModelReplicas, ReplicaLoad } from '../../../dist/models/model-replicas.js';
import type { RegisteredModel } from '../../../dist/models/registered-model.js';

/** A replica without a thread: loads a model at once, or when the model's gate opens. */
export class FakeModelReplica implements ModelReplica {
  readonly id: string;
  readonly deployment = 'default';
  readonly models = new Map<string, 'loading' | 'loaded'>();
  ongoing = 0;
  readonly #replicas: FakeModelReplicas;

  constructor(id: string, replicas: FakeModelReplicas) {
    this.id = id;
    this.#replicas = replicas;
  }

  isTrying(modelKey: string): boolean {
    return this.models.get(modelKey) === 'loading';
  }

  async load(model: RegisteredModel, { pin, replaces, isTrial = false }: ReplicaLoad): Promise<void> {
    const { key } = model;
    if (this.models.get(key) === 'loaded') return;
    this.#replicas.log.push(
      `${this.id} ${isTrial ? 'tries' : 'loads'} ${key}${pin ? ' pinned' : ''}${replaces === undefined ? '' : ` for ${replaces}`}`,
    );
    this.models.set(key, 'loading');
    await this.#replicas.gates.get(model.id);
    const failure = this.#replicas.failures.get(model.id)?.shift();
    if (failure !== undefined) {
      this.models.delete(key);
      throw failure;
    }
    this.models.set(key, 'loaded');
    this.#replicas.loaded(model);
  }

  async unload(key: string, reason: string): Promise<number> {
    if (!this.models.delete(key)) return 0;
    this.#replicas.log.push(`${this.id} unloads ${key} ${reason}`);
    return 10;
  }
}

export class FakeModelReplicas implements ModelReplicas {
  readonly log: string[] = [];
  /** By model id: errors of the model's next loads, in order; undefined for a load that succeeds. */
  readonly failures = new Map<string, (InfermuxError | undefined)[]>();
  /** By model id: the promise that the model's loads wait for. */
  readonly gates = new Map<string, Promise<void>>();
  /** By key: the promise that {@link untilUnused} waits for. */
  readonly inUse = new Map<string, Promise<void>>();
  readonly forgotten: string[] = [];
  readonly all: FakeModelReplica[];
  express: FakeModelReplica | undefined;
  refusal: InfermuxError | undefined;
  loaded: (model: RegisteredModel) => void = () => undefined;

  constructor(count = 2) {
    this.all = Array.from({ length: count }, (_, index) => new FakeModelReplica(`r${index}`, this));
  }

  defaultDeployment(): string {
    return 'default';
  }

  wanted(): number {
    return this.all.length;
  }

  running(): FakeModelReplica[] {
    return [...this.all];
  }

  withSessions(): FakeModelReplica[] {
    return this.express === undefined ? this.running() : [...this.running(), this.express];
  }

  async loadInTurn(model: RegisteredModel, { models }: ModelReplica, load: () => Promise<void>): Promise<void> {
    if (this.refusal !== undefined && models.get(model.key) !== 'loaded') throw this.refusal;
    await load();
  }

  isWaitedFor(): boolean {
    return false;
  }

  async untilUnused(key: string): Promise<void> {
    await this.inUse.get(key);
  }

  forget(key: string): void {
    this.forgotten.push(key);
  }

  fail(id: string, times: number): void {
    const error = new InfermuxError('MODEL_LOAD_FAILED', `${id} is broken`);
    this.failures.set(
      id,
      Array.from({ length: times }, () => error),
    );
  }
}

/** A promise with the function that settles it. */
export function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}
