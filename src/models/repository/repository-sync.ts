import type { Clock } from '../../common/clock.js';
import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import { KeyedTasks } from '../../common/tasks/keyed-tasks.js';
import type { ModelCatalog, ModelOwner } from '../model-catalog.js';
import {
  CatalogUpdater,
  type CatalogUpdaterEnvironment,
  type SyncObserver,
  type Update,
  type UpdateOrder,
} from './catalog-updater.js';
import { ChangeLog } from './change-log.js';
import { unsettledOf } from './repository-changes.js';
import type { ModelScanner, RepositoryScan, ScannedModel } from './scanned-model.js';

/** The result of a check of the directory, by ids of models. */
export interface SyncReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /**
   * Models that are left for a later check, because their files are still being written, an earlier check is still
   * applying a change, the file system gave an error, no replica could test them, or all files disappeared at once.
   */
  readonly unsettled: readonly string[];
  /** Models with an error: their new files are not usable and the earlier ones are still served, or a load failed. */
  readonly failed: readonly { readonly id: string; readonly error: InfermuxError }[];
  /** Names that look like models but are not, and `id/name` of folders that look like versions, with the reason. */
  readonly passedOver: Readonly<Record<string, string>>;
}

export type SyncOrder = Omit<UpdateOrder, 'withdrawn'>;

export interface RepositorySyncObserver extends SyncObserver {
  /** All models are gone at once. They are served on until a later look finds the same. */
  emptied(): void;
  /** A change has ended that a later look should try again. */
  unsettled(): void;
}

/** Makes the catalog follow a directory. Models change independently: a slow one does not delay the others. */
export class RepositorySync {
  readonly #scanner: ModelScanner;
  readonly #settleMs: number;
  /** Others' models are not its own. */
  readonly #owner: ModelOwner;
  readonly #catalog: ModelCatalog;
  readonly #clock: Clock;
  readonly #changes = new ChangeLog();
  readonly #updater: CatalogUpdater;
  /** The change under way of each model, by id. */
  readonly #turns = new KeyedTasks();
  readonly #observer: RepositorySyncObserver;
  /** Number of looks under way. */
  #looks = 0;
  /** Whether the last look found nothing while models were served. */
  #isEmptied = false;

  constructor(
    { scanner, settleMs, owner }: { scanner: ModelScanner; settleMs: number; owner: ModelOwner },
    environment: CatalogUpdaterEnvironment,
    observer: RepositorySyncObserver,
  ) {
    this.#scanner = scanner;
    this.#settleMs = settleMs;
    this.#owner = owner;
    this.#catalog = environment.catalog;
    this.#clock = environment.clock;
    this.#observer = observer;
    this.#updater = new CatalogUpdater(environment, this.#changes, observer, owner);
  }

  /** Looks at the directory. @throws InfermuxError `FAILED_PRECONDITION` when it cannot be read: nothing changes. */
  async sync(order: SyncOrder): Promise<SyncReport> {
    this.#looks += 1;
    try {
      return await this.#look(order);
    } finally {
      this.#looks -= 1;
      this.#forgetChanges();
    }
  }

  /** When no look is left that needs to know of changes since it began. */
  #forgetChanges(): void {
    if (this.#looks === 0 && this.#turns.size === 0) this.#changes.clear();
  }

  /** Ids of its models in the catalog. */
  #ids(): string[] {
    const ids = [...this.#catalog.entries].map(({ id }) => id);
    return ids.filter((id) => this.#catalog.ownerOf(id) === this.#owner);
  }

  async #look(order: SyncOrder): Promise<SyncReport> {
    const began = this.#changes.now;
    const wasEmptied = this.#isEmptied;
    const { models, passedOver, unsettled, isEmpty } = await this.#scanSettled();
    this.#isEmptied = isEmpty && !wasEmptied && this.#ids().length > 0;
    const report = { added: [] as string[], changed: [] as string[], removed: [] as string[] };
    const failed: { id: string; error: InfermuxError }[] = [];
    const note = (id: string, { change, error, isSettled }: Update) => {
      if (change !== 'none') report[change].push(id);
      if (error !== undefined) failed.push({ id, error });
      if (!isSettled) unsettled.add(id);
    };
    if (this.#isEmptied) {
      for (const id of this.#ids()) unsettled.add(id);
      this.#observer.emptied();
    }
    const ids = new Set([...models.keys(), ...this.#ids()]);
    const work = [...ids].map(async (id) => {
      const problem = this.#updater.problemOf(id, models.get(id));
      // The system may have failed to answer one of the two scans.
      if (unsettled.has(id) && problem?.retryable !== true) return;
      if (!this.#turns.has(id) && this.#updater.changeOf(id, models.get(id)) === 'none') {
        note(id, this.#updater.leave(id, problem));
      } else if (!order.wait && this.#turns.has(id)) unsettled.add(id);
      else note(id, await this.#update(id, async () => this.#since(began, id, models), order));
    });
    if (order.wait) await Promise.all(work);
    // Without a wait the work goes on, and the report stays as it is.
    const { added, changed, removed } = report;
    return {
      ...{ added: [...added], changed: [...changed], removed: [...removed], unsettled: [...unsettled] },
      ...{ failed: [...failed], passedOver: Object.fromEntries(passedOver) },
    };
  }

  /**
   * Brings one model up to date without waiting for its files to settle: the caller knows that they are complete. What
   * leaves is waited for, unless a finder has found it: a request may keep it until another model of the finder is there.
   *
   * @param verify whether a model under a new id must be shown to load, too.
   * @throws InfermuxError why its current files cannot be served.
   */
  async refresh(id: string, verify = false): Promise<void> {
    const find = () => {
      this.#changes.note(id);
      return this.#scanOne(id);
    };
    const { error } = await this.#update(id, find, { wait: this.#owner !== 'finder', load: false, verify });
    // The turn is over in the next turn of the promises.
    queueMicrotask(() => this.#forgetChanges());
    if (error !== undefined) throw error;
  }

  /** Looks for one model. One that is still being written is taken by a later look. */
  async lookFor(id: string, load: boolean): Promise<void> {
    const { models, unsettled } = await this.#scanSettled(id);
    if (unsettled.has(id)) this.#observer.unsettled();
    else if (models.has(id)) await this.#update(id, async () => models.get(id), { wait: false, load });
  }

  /**
   * Takes a model, or one version of it, out of service. Its files are removed when its accepted requests are answered
   * and its sessions are gone. If that fails, it is served again.
   *
   * @throws InfermuxError when its other versions cannot be looked at; what `removeFiles` throws.
   */
  async withdraw(id: string, version: number | undefined, removeFiles: () => Promise<void>): Promise<void> {
    try {
      await this.#inTurn(id, async () => {
        const rest = version === undefined ? undefined : await this.#scanOne(id, version);
        if (rest?.problem?.retryable === true) throw rest.problem;
        const order = { wait: true, load: false, withdrawn: version };
        await this.#updater.apply(id, rest, order);
        await removeFiles();
        // Any look that has seen the model is out of date now, even if the model was not served.
        this.#changes.note(id);
      });
    } finally {
      await this.refresh(id).catch(() => this.#observer.unsettled());
    }
  }

  /** Brings one model up to date in its turn. */
  async #update(id: string, find: () => Promise<ScannedModel | undefined>, order: SyncOrder): Promise<Update> {
    const update = await this.#inTurn(id, async (): Promise<Update> => {
      try {
        return await this.#updater.apply(id, await find(), order);
      } catch (cause) {
        return { change: 'none', error: toInfermuxError(cause), isSettled: false };
      }
    });
    if (!update.isSettled) this.#observer.unsettled();
    return update;
  }

  /** Runs the work after earlier work on the same model. */
  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.add(id, (this.#turns.get(id) ?? Promise.resolve()).then(work));
  }

  /** The model as the look found it, or if it was changed since the look began, as it is now. */
  async #since(
    began: number,
    id: string,
    models: ReadonlyMap<string, ScannedModel>,
  ): Promise<ScannedModel | undefined> {
    return this.#changes.hasChanged(id, began) ? this.#scanOne(id) : models.get(id);
  }

  async #scanOne(id: string, except?: number): Promise<ScannedModel | undefined> {
    return (await this.#scanner.scan(id, except)).models.get(id);
  }

  /** Scans the directory, twice if a model may still be written. A model that changes between them is unsettled. */
  async #scanSettled(only?: string): Promise<RepositoryScan & { unsettled: Set<string> }> {
    const first = await this.#scanner.scan(only);
    const young = [...first.models.values()].filter((model) => this.#isYoung(model));
    if (young.length === 0) return { ...first, unsettled: new Set() };
    await new Promise<void>((resolve) => this.#clock.schedule(resolve, this.#settleMs));
    const second = await this.#scanner.scan(only);
    return { ...second, unsettled: unsettledOf(first, second) };
  }

  /** Whether the model may still be written. One that does not differ from the served one needs no second scan. */
  #isYoung(model: ScannedModel): boolean {
    if (this.#settleMs === 0 || Date.now() - model.changedAt > this.#settleMs) return false;
    return this.#updater.changeOf(model.id, model) !== 'none';
  }
}
