import type { Clock } from '../../common/clock.js';
import { KeyedTasks } from '../../common/tasks/keyed-tasks.js';
import type { ModelCatalog, ModelOwner } from '../model-catalog.js';
import type { ModelLoader } from '../model-loader.js';
import type { ResolvedRepositoryOptions } from '../model-manager-options.js';
import type { ModelReplicas } from '../model-replicas.js';
import type { PinnedModels } from '../pinned-models.js';
import type { FoundModel } from '../registered-model.js';
import type { ModelReports } from '../reports/model-reports.js';
import type { ModelSettings } from '../sources/manifest.js';
import { TRITON_CONFIG } from '../sources/model-folder.js';
import { inOrder } from './repository-changes.js';
import { RepositoryFollower } from './repository-follower.js';
import { RepositorySync, type SyncOrder, type SyncReport } from './repository-sync.js';
import type { ModelScanner } from './scanned-model.js';
import { SettingsOverrides } from './settings-overrides.js';

export interface FollowedModelsEnvironment {
  readonly catalog: ModelCatalog;
  readonly loader: ModelLoader;
  readonly replicas: ModelReplicas;
  readonly pinned: PinnedModels;
  readonly reports: ModelReports;
  readonly clock: Clock;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

const NO_SETTINGS = '{}';

/** Models that change where they are found: in a directory, or in files that are named one by one. */
export class FollowedModels {
  readonly #catalog: ModelCatalog;
  readonly #owner: ModelOwner;
  /** Whether what a look finds is loaded. */
  readonly #loads: boolean;
  readonly #overrides: SettingsOverrides;
  /** Changes of one model's override take turns. */
  readonly #turns = new KeyedTasks();
  readonly #sync: RepositorySync;
  readonly #follower: RepositoryFollower;
  readonly #log: FollowedModelsEnvironment['log'];
  #warnedOf = NO_SETTINGS;
  #isOpen = false;
  /** Whether something waits for a replica, or for the system to answer. */
  #isWaiting = false;

  /** @param owner whose models they are in the catalog. */
  constructor(
    scanner: ModelScanner,
    {
      settleMs,
      pollMs,
      lazy,
      loadOnStart,
    }: Pick<ResolvedRepositoryOptions, 'settleMs' | 'pollMs' | 'lazy' | 'loadOnStart'>,
    environment: FollowedModelsEnvironment,
    owner: ModelOwner = 'directory',
  ) {
    const { catalog, pinned, reports, clock, log } = environment;
    this.#catalog = catalog;
    this.#owner = owner;
    this.#log = log;
    this.#overrides = new SettingsOverrides(scanner);
    this.#sync = new RepositorySync({ scanner: this.#overrides, settleMs, owner }, environment, {
      served: (id, change) => {
        if (this.#isOpen) log('info', { model: id }, `model ${change}`);
        // Before that, the pinned models are loaded with the others.
        if (this.#isOpen && pinned.hasId(id)) void pinned.load();
      },
      removed: (id) => log('info', { model: id }, 'model removed'),
      failed: (id, { message: reason }) => log('warn', { model: id, reason }, 'model cannot be served'),
      postponed: (id, { code, message: reason }) => {
        if (code !== 'ENGINE_CLOSED') log('warn', { model: id, reason }, 'model stays as it is for now');
      },
      notLoaded: (id, { message: reason }) =>
        log('warn', { model: id, reason }, 'model is served but could not be loaded'),
      forgotten: (key) => reports.forgetModel(key),
      emptied: () => {
        const message = 'the directory of models is empty; its models are served until a later look finds the same';
        log('warn', {}, message);
      },
      unsettled: () => {
        this.#isWaiting = true;
        this.#follower.seen(1);
      },
    });
    this.#loads = !lazy || loadOnStart;
    const look = () => this.#look({ wait: false, load: this.#loads });
    this.#follower = new RepositoryFollower(pollMs, look, clock, {
      unreadable: ({ message: reason }, failuresInRow) => {
        const message = 'the directory of models cannot be read; loaded models are still served, and it is tried again';
        log('warn', { reason, failuresInRow }, message);
      },
      readableAgain: () => log('info', {}, 'the directory of models can be read again'),
    });
  }

  /**
   * Registers the models without loading them, and begins to follow them.
   *
   * @param found the models, if they have been looked for already.
   * @throws InfermuxError `FAILED_PRECONDITION` when they cannot be looked for.
   */
  async open(found?: readonly FoundModel[]): Promise<void> {
    for (const model of found ?? []) {
      const { id, version } = model;
      const { served = [], versions = [] } = this.#catalog.entry(id) ?? {};
      this.#catalog.put({
        ...{ id, problem: undefined, owner: this.#owner },
        served: inOrder([...served, this.#catalog.register(model)]),
        versions: [...versions, version].sort((left, right) => left - right),
      });
    }
    const { unsettled } = found === undefined ? await this.#look({ wait: true, load: false }) : { unsettled: [] };
    this.#isOpen = true;
    this.#follower.follow(unsettled.length);
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read: then nothing has changed. */
  async sync(order: SyncOrder): Promise<SyncReport> {
    let unsettled = 1;
    try {
      const report = await this.#look(order);
      unsettled = report.unsettled.length;
      return report;
    } finally {
      this.#follower.seen(unsettled);
    }
  }

  /** As {@link RepositorySync.refresh}. */
  refresh(id: string, verify = false): Promise<void> {
    return this.#sync.refresh(id, verify);
  }

  /**
   * Serves a model with these settings in place of those of its source, until it is gone; undefined: with those again.
   *
   * @throws InfermuxError why it cannot be served so: then all is as before.
   */
  configure(id: string, settings: ModelSettings | undefined): Promise<void> {
    return this.#turns.inTurn(id, async () => {
      const before = this.#overrides.of(id);
      if (before === undefined && settings === undefined) return;
      this.#overrides.put(id, settings && this.#overrides.create(settings));
      try {
        await this.refresh(id, true);
      } catch (cause) {
        this.#overrides.put(id, before);
        await this.refresh(id).catch(() => undefined);
        throw cause;
      }
    });
  }

  /** As {@link RepositorySync.lookFor}. */
  lookFor(id: string): Promise<void> {
    return this.#sync.lookFor(id, this.#loads);
  }

  /** As {@link RepositorySync.withdraw}. */
  withdraw(id: string, version: number | undefined, removeFiles: () => Promise<void>): Promise<void> {
    return this.#sync.withdraw(id, version, removeFiles);
  }

  /** A load found other files than those that were registered, or the system could not say. */
  loadFailed(): void {
    this.#follower.soon();
  }

  /** A replica runs: it may try what waits to be tried. */
  replicaRunning(): void {
    if (this.#isWaiting) this.#follower.soon();
  }

  close(): void {
    this.#follower.stop();
  }

  async #look(order: SyncOrder): Promise<SyncReport> {
    this.#isWaiting = false;
    const report = await this.#sync.sync(order);
    this.#warnOfSettings(report.passedOver);
    return report;
  }

  /** Warns once of what Triton's configurations say that has no counterpart. */
  #warnOfSettings(passedOver: SyncReport['passedOver']): void {
    const own = Object.entries(passedOver).filter(([name]) => name.endsWith(TRITON_CONFIG));
    // A look finds them in any order.
    const settings = Object.fromEntries(own.sort(([one], [other]) => (one < other ? -1 : 1)));
    const text = JSON.stringify(settings);
    if (text === this.#warnedOf) return;
    this.#warnedOf = text;
    if (text !== NO_SETTINGS) this.#log('warn', { settings }, 'settings of config.pbtxt without a counterpart');
  }
}
