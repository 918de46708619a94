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
import type { RepositoryScanner, ScannedModel } from './repository-scanner.js';

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

export type SyncOrder = Omit<UpdateOrder, 'force'>;

/** Makes the catalog follow a directory. Each model is changed by itself: one that is slow holds up no other. */
export class RepositorySync {
  readonly #scanner: RepositoryScanner;
  readonly #settleMs: number;
  readonly #catalog: ModelCatalog;
  readonly #clock: Clock;
  readonly #changes = new ChangeLog();
  readonly #updater: CatalogUpdater;
  /** What is being done to each model, by id. */
  readonly #turns = new KeyedTasks();
  /** Looks under way. */
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

  /** @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read: then nothing has changed. */
  async sync(order: SyncOrder): Promise<SyncReport> {
    this.#looks += 1;
    try {
      return await this.#look(order);
    } finally {
      this.#looks -= 1;
      // Nobody needs to know any more what happened meanwhile.
      if (this.#looks === 0 && this.#turns.size === 0) this.#changes.clear();
    }
  }

  async #look(order: SyncOrder): Promise<SyncReport> {
    const began = this.#changes.now;
    const { models, unsettled } = await this.#scanSettled();
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
    return { ...report, unsettled: [...unsettled], failed };
  }

  /**
   * Brings one model up to date at once: whoever asks knows that its files are whole.
   *
   * @throws InfermuxError why it cannot be served as it is now.
   */
  async refresh(id: string): Promise<void> {
    await this.#inTurn(id, async () => {
      this.#changes.note(id);
      await this.#updater.apply(id, await this.#scanOne(id), { wait: true, load: false });
    });
  }

  /**
   * Takes a model, or one version of it, out of service: when its accepted requests are answered and its sessions are gone,
   * its files are removed. Where that fails, it is served again.
   */
  async withdraw(id: string, version: number | undefined, removeFiles: () => Promise<void>): Promise<void> {
    try {
      await this.#inTurn(id, async () => {
        const rest = version === undefined ? undefined : await this.#scanOne(id, version);
        const order = { wait: true, load: false, force: true };
        await this.#updater.apply(id, rest?.problem === undefined ? rest : undefined, order);
        await removeFiles();
        // What others have seen of it by now is out of date, also where it was not served.
        this.#changes.note(id);
      });
    } finally {
      await this.refresh(id).catch(() => undefined);
    }
  }

  /** What is done to one model is done one after the other. */
  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.add(id, (this.#turns.get(id) ?? Promise.resolve()).then(work));
  }

  /** What a look that began then found; if the model was changed meanwhile, what is there now. */
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
    return this.#updater.changeOf(model.id, model) !== 'none';
  }
}
