import type { Clock } from '../clock.js';
import { type InfermuxError, toInfermuxError } from '../errors.js';
import { FailureMemory } from '../failure-memory.js';
import type { CatalogEntry, ModelCatalog } from './model-catalog.js';
import type { ModelHosts } from './model-host.js';
import type { ModelLoader } from './model-loader.js';
import { type FoundModel, nameOf, type RegisteredModel } from './registered-model.js';
import type { RepositoryScan, RepositoryScanner, ScannedModel } from './repository-scan.js';

/** What a look at the directory came to: ids of models. */
export interface SyncReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /** Still being written, or still being changed for an earlier look: left for the next one. */
  readonly unsettled: readonly string[];
  /** Models that cannot be served as they are now; what was served of them before still is. */
  readonly failed: readonly { readonly id: string; readonly error: InfermuxError }[];
}

export interface SyncOrder {
  /** Whether to wait until all loads and unloads are done. */
  readonly wait: boolean;
  /** Whether to load what is new or has changed. */
  readonly load: boolean;
}

export interface SyncObserver {
  /** The model is served, or is served in another revision or other versions. */
  served(id: string, change: 'added' | 'changed'): void;
  removed(id: string): void;
  failed(id: string, error: InfermuxError): void;
  /** Nobody asks for the model any more, and its sessions are gone. */
  forgotten(key: string): void;
}

type Change = 'added' | 'changed' | 'removed' | 'none';

/** Makes the catalog follow a directory. Each model is changed by itself: one that is slow holds up no other. */
export class RepositorySync {
  readonly #scanner: RepositoryScanner;
  readonly #settleMs: number;
  readonly #catalog: ModelCatalog;
  readonly #loader: ModelLoader;
  readonly #hosts: ModelHosts;
  readonly #clock: Clock;
  readonly #observer: SyncObserver;
  readonly #failures: FailureMemory;
  /** Changes under way by id; none rejects. */
  readonly #underWay = new Map<string, Promise<unknown>>();
  /** Models that are registered and could not take the place of those that are served. */
  readonly #candidates = new Map<string, RegisteredModel>();

  constructor(
    { scanner, settleMs }: { scanner: RepositoryScanner; settleMs: number },
    { catalog, loader, hosts, clock }: { catalog: ModelCatalog; loader: ModelLoader; hosts: ModelHosts; clock: Clock },
    observer: SyncObserver,
  ) {
    this.#scanner = scanner;
    this.#settleMs = settleMs;
    this.#catalog = catalog;
    this.#loader = loader;
    this.#hosts = hosts;
    this.#clock = clock;
    this.#observer = observer;
    this.#failures = new FailureMemory(() => clock.now());
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read: then nothing has changed. */
  async sync({ wait, load }: SyncOrder): Promise<SyncReport> {
    const { models, unsettled } = await this.#scanSettled();
    const report = { added: [] as string[], changed: [] as string[], removed: [] as string[] };
    const failed: { id: string; error: InfermuxError }[] = [];
    const ids = new Set([...models.keys(), ...[...this.#catalog.entries].map(({ id }) => id)]);
    const work = [...ids].map(async (id) => {
      if (unsettled.has(id)) return;
      if (this.#underWay.has(id)) {
        if (!wait) unsettled.add(id);
        await this.#underWay.get(id);
        if (!wait) return;
      }
      const change = this.#changeOf(id, models.get(id));
      try {
        const applied = this.#begin(id, () => this.#apply(id, models.get(id), { wait, load }));
        if (wait) await applied;
        if (change !== 'none') report[change].push(id);
        await applied;
      } catch (cause) {
        failed.push({ id, error: toInfermuxError(cause) });
      }
    });
    if (wait) await Promise.all(work);
    return { ...report, unsettled: [...unsettled], failed };
  }

  /** Brings one model up to date at once: whoever asks knows that its files are whole. */
  async refresh(id: string): Promise<void> {
    await this.#underWay.get(id);
    const { models } = await this.#scanner.scan(id);
    await this.#begin(id, () => this.#apply(id, models.get(id), { wait: true, load: false }));
  }

  /**
   * Takes a model, or one version of it, out of service: when its accepted requests are answered and its sessions are gone,
   * its files are removed. Where that fails, it is served again.
   */
  async withdraw(id: string, version: number | undefined, removeFiles: () => Promise<void>): Promise<void> {
    await this.#underWay.get(id);
    try {
      await this.#begin(id, async () => {
        const rest = version === undefined ? undefined : (await this.#scanner.scan(id, version)).models.get(id);
        await this.#apply(id, rest?.problem === undefined ? rest : undefined, { wait: true, load: false });
        await removeFiles();
      });
    } finally {
      await this.refresh(id).catch(() => undefined);
    }
  }

  /** What is still being written is not there yet, or is as it was. */
  async #scanSettled(): Promise<{ models: ReadonlyMap<string, ScannedModel>; unsettled: Set<string> }> {
    const first = await this.#scanner.scan();
    const young = [...first.models.values()].filter((model) => this.#isYoung(model));
    if (young.length === 0) return { models: first.models, unsettled: new Set() };
    await new Promise<void>((resolve) => this.#clock.schedule(resolve, this.#settleMs));
    const second = await this.#scanner.scan();
    return { models: second.models, unsettled: unsettledOf(first, second) };
  }

  /** Only what differs from what is served needs to be looked at twice. */
  #isYoung(model: ScannedModel): boolean {
    if (this.#settleMs === 0 || Date.now() - model.changedAt > this.#settleMs) return false;
    return this.#changeOf(model.id, model) !== 'none';
  }

  #changeOf(id: string, scanned: ScannedModel | undefined): Change {
    const entry = this.#catalog.entry(id);
    if (scanned === undefined) return entry === undefined ? 'none' : 'removed';
    if (entry === undefined) return 'added';
    return isSame(entry, scanned) ? 'none' : 'changed';
  }

  #begin<T>(id: string, work: () => Promise<T>): Promise<T> {
    const running = work();
    const settled = running
      .catch(() => undefined)
      .finally(() => {
        if (this.#underWay.get(id) === settled) this.#underWay.delete(id);
      });
    this.#underWay.set(id, settled);
    return running;
  }

  async #apply(id: string, scanned: ScannedModel | undefined, { wait, load }: SyncOrder): Promise<void> {
    const entry = this.#catalog.entry(id);
    const change = this.#changeOf(id, scanned);
    if (scanned === undefined) {
      if (entry !== undefined) await this.#remove(entry, wait);
      return;
    }
    if (scanned.problem !== undefined) throw this.#fail(scanned, scanned.problem);
    if (change !== 'none') await this.#serve(scanned, entry, change as 'added' | 'changed', wait);
    if (load && change !== 'none') await this.#load(id);
  }

  async #serve(
    scanned: ScannedModel,
    entry: CatalogEntry | undefined,
    change: 'added' | 'changed',
    wait: boolean,
  ): Promise<void> {
    const { id, versions } = scanned;
    const current = entry?.served ?? [];
    const served = scanned.served.map(
      (found) => current.find((model) => areSame(model, found)) ?? this.#candidate(found),
    );
    for (const model of served) {
      const old = current.includes(model) ? undefined : predecessorOf(model, served, current);
      // One that has served goes on doing so until the other one is known to load.
      if (old !== undefined && this.#catalog.metadata(old.key) !== undefined) await this.#replace(old, model, scanned);
    }
    for (const model of served) this.#candidates.delete(nameOf(model));
    this.#catalog.put({ id, served, versions, problem: undefined });
    this.#observer.served(id, change);
    const retired = this.#retire(
      current.filter((model) => !served.includes(model)),
      'replaced',
    );
    if (wait) await retired;
  }

  async #replace(old: RegisteredModel, model: RegisteredModel, scanned: ScannedModel): Promise<void> {
    const remembered = this.#failures.recall(model.key);
    if (remembered !== undefined) throw remembered;
    try {
      await this.#loader.replace(old, model);
      this.#failures.forget(model.key);
    } catch (cause) {
      const error = toInfermuxError(cause);
      this.#failures.record(model.key, error);
      throw this.#fail(scanned, error);
    }
  }

  async #load(id: string): Promise<void> {
    const models = this.#catalog.entry(id)?.served ?? [];
    try {
      await Promise.all(models.map((model) => this.#loader.load(model, { replicas: 1, pin: false, retries: 0 })));
    } catch (cause) {
      const error = toInfermuxError(cause);
      this.#observer.failed(id, error);
      throw error;
    }
  }

  async #remove(entry: CatalogEntry, wait: boolean): Promise<void> {
    this.#catalog.remove(entry.id);
    for (const [name, candidate] of this.#candidates) if (candidate.id === entry.id) this.#dropCandidate(name);
    this.#observer.removed(entry.id);
    const retired = this.#retire(entry.served, 'unloaded');
    if (wait) await retired;
  }

  /** Their accepted requests are answered before their sessions leave. */
  async #retire(models: readonly RegisteredModel[], reason: 'unloaded' | 'replaced'): Promise<void> {
    await Promise.all(
      models.map(async ({ key }) => {
        await this.#hosts.untilUnused(key);
        await this.#loader.unload(key, reason);
        this.#forget(key);
      }),
    );
  }

  /** What was served still is; the reason why it is not what is there is told once. */
  #fail({ id, versions }: ScannedModel, error: InfermuxError): InfermuxError {
    const { served = [], problem } = this.#catalog.entry(id) ?? {};
    this.#catalog.put({ id, served, versions, problem: error });
    if (problem?.message !== error.message) this.#observer.failed(id, error);
    return error;
  }

  /** The same one again as long as its files are the same, so that it is known that it has failed. */
  #candidate(found: FoundModel): RegisteredModel {
    const name = nameOf(found);
    const known = this.#candidates.get(name);
    if (known !== undefined && areSame(known, found)) return known;
    this.#dropCandidate(name);
    const model = this.#catalog.register(found);
    this.#candidates.set(name, model);
    return model;
  }

  #dropCandidate(name: string): void {
    const candidate = this.#candidates.get(name);
    this.#candidates.delete(name);
    if (candidate !== undefined) this.#forget(candidate.key);
  }

  #forget(key: string): void {
    this.#failures.forget(key);
    this.#catalog.forget(key);
    this.#hosts.forget(key);
    this.#observer.forgotten(key);
  }
}

function unsettledOf(first: RepositoryScan, second: RepositoryScan): Set<string> {
  const unsettled = new Set<string>();
  for (const [id, model] of second.models) {
    const before = first.models.get(id);
    if (before === undefined || fingerprintOf(before) !== fingerprintOf(model)) unsettled.add(id);
  }
  return unsettled;
}

function fingerprintOf({ served, problem }: ScannedModel): string {
  return [problem?.message, ...served.map(({ fingerprint }) => fingerprint)].join('\n');
}

function isSame(entry: CatalogEntry, { served, problem }: ScannedModel): boolean {
  if (problem !== undefined || entry.problem !== undefined) return problem?.message === entry.problem?.message;
  return (
    entry.served.length === served.length &&
    served.every((found) => entry.served.some((model) => areSame(model, found)))
  );
}

function areSame(one: FoundModel, other: FoundModel): boolean {
  return one.version === other.version && one.fingerprint === other.fingerprint;
}

/** The one whose place the model takes: that of its version, or the one that the id has stood for. */
function predecessorOf(
  model: RegisteredModel,
  served: readonly RegisteredModel[],
  current: readonly RegisteredModel[],
): RegisteredModel | undefined {
  const sameVersion = current.find(({ version }) => version === model.version);
  return sameVersion ?? (model === served.at(-1) ? current.at(-1) : undefined);
}
