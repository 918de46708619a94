import type { Clock } from '../../common/clock.js';
import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import { KeyedTasks } from '../keyed-tasks.js';
import type { ModelCatalog } from '../model-catalog.js';
import {
  CatalogUpdater,
  type CatalogUpdaterEnvironment,
  type SyncObserver,
  type UpdateOrder,
} from './catalog-updater.js';
import { ChangeLog } from './change-log.js';
import { unsettledOf } from './repository-changes.js';
import type { RepositoryScan, RepositoryScanner, ScannedModel } from './repository-scanner.js';

/** The result of a look at the directory, by ids of models. */
export interface SyncReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /** Models that are still being written, or are still changed by an earlier look. The next look takes them. */
  readonly unsettled: readonly string[];
  /** Models whose current files cannot be served; earlier ones are still served. */
  readonly failed: readonly { readonly id: string; readonly error: InfermuxError }[];
  /** Names that look like models and are none, with the reason. */
  readonly passedOver: Readonly<Record<string, string>>;
}

export type SyncOrder = Omit<UpdateOrder, 'force'>;

/** Makes the catalog follow a directory. Models change independently: a slow one does not delay the others. */
export class RepositorySync {
  readonly #scanner: RepositoryScanner;
  readonly #settleMs: number;
  readonly #catalog: ModelCatalog;
  readonly #clock: Clock;
  readonly #changes = new ChangeLog();
  readonly #updater: CatalogUpdater;
  /** The change under way of each model, by id. */
  readonly #turns = new KeyedTasks();
  /** Number of looks under way. */
  #looks = 0;

  constructor(
    { scanner, settleMs }: { scanner: RepositoryScanner; settleMs: number },
    environment: CatalogUpdaterEnvironment,
    observer: SyncObserver,
  ) {
    this.#scanner = scanner;
    this.#settleMs = settleMs;
    this.#catalog = environment.catalog;
    this.#clock = environment.clock;
    this.#updater = new CatalogUpdater(environment, this.#changes, observer);
  }

  /** Looks at the directory. @throws InfermuxError `FAILED_PRECONDITION` when it cannot be read: nothing changes. */
  async sync(order: SyncOrder): Promise<SyncReport> {
    this.#looks += 1;
    try {
      return await this.#look(order);
    } finally {
      this.#looks -= 1;
      // No look is left that needs to know of changes since it began.
      if (this.#looks === 0 && this.#turns.size === 0) this.#changes.clear();
    }
  }

  async #look(order: SyncOrder): Promise<SyncReport> {
    const began = this.#changes.now;
    const { models, passedOver, unsettled } = await this.#scanSettled();
    const report = { added: [] as string[], changed: [] as string[], removed: [] as string[] };
    const failed: { id: string; error: InfermuxError }[] = [];
    const ids = new Set([...models.keys(), ...[...this.#catalog.entries].map(({ id }) => id)]);
    const work = [...ids].map(async (id) => {
      if (unsettled.has(id)) return;
      const { problem } = models.get(id) ?? {};
      if (!this.#turns.has(id) && this.#updater.changeOf(id, models.get(id)) === 'none') {
        if (problem !== undefined) failed.push({ id, error: problem });
        return;
      }
      if (!order.wait && this.#turns.has(id)) {
        unsettled.add(id);
        return;
      }
      try {
        const change = await this.#inTurn(id, async () =>
          this.#updater.apply(id, await this.#since(began, id, models), order),
        );
        if (change !== 'none') report[change].push(id);
      } catch (cause) {
        failed.push({ id, error: toInfermuxError(cause) });
      }
    });
    if (order.wait) await Promise.all(work);
    return { ...report, unsettled: [...unsettled], failed, passedOver: Object.fromEntries(passedOver) };
  }

  /**
   * Brings one model up to date without waiting for its files to settle: the caller knows that they are complete.
   *
   * @throws InfermuxError why its current files cannot be served.
   */
  async refresh(id: string): Promise<void> {
    await this.#inTurn(id, async () => {
      this.#changes.note(id);
      await this.#updater.apply(id, await this.#scanOne(id), { wait: true, load: false });
    });
  }

  /**
   * Takes a model, or one version of it, out of service. Its files are removed when its accepted requests are answered
   * and its sessions are gone. If that fails, it is served again.
   */
  async withdraw(id: string, version: number | undefined, removeFiles: () => Promise<void>): Promise<void> {
    try {
      await this.#inTurn(id, async () => {
        const rest = version === undefined ? undefined : await this.#scanOne(id, version);
        const order = { wait: true, load: false, force: true };
        await this.#updater.apply(id, rest?.problem === undefined ? rest : undefined, order);
        await removeFiles();
        // Any look that has seen the model is out of date now, even if the model was not served.
        this.#changes.note(id);
      });
    } finally {
      await this.refresh(id).catch(() => undefined);
    }
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
  async #scanSettled(): Promise<RepositoryScan & { unsettled: Set<string> }> {
    const first = await this.#scanner.scan();
    const young = [...first.models.values()].filter((model) => this.#isYoung(model));
    if (young.length === 0) return { ...first, unsettled: new Set() };
    await new Promise<void>((resolve) => this.#clock.schedule(resolve, this.#settleMs));
    const second = await this.#scanner.scan();
    return { ...second, unsettled: unsettledOf(first, second) };
  }

  /** Whether the model may still be written. One that does not differ from the served one needs no second scan. */
  #isYoung(model: ScannedModel): boolean {
    if (this.#settleMs === 0 || Date.now() - model.changedAt > this.#settleMs) return false;
    return this.#updater.changeOf(model.id, model) !== 'none';
  }
}
