import { inspect } from 'node:util';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import { KeyedTasks } from '../../common/tasks/keyed-tasks.js';
import { isFinder, type ModelFinder, type ResolvedFinder } from '../finder/finder.js';
import type { Finders } from '../finder/finders.js';
import type { ModelSearch } from '../finder/model-search.js';
import { type Target, targetOf } from '../finder/target.js';
import type { ResolvedRepositoryOptions } from '../model-manager-options.js';
import { type FoundModel, nameOf } from '../registered-model.js';
import { FollowedModels, type FollowedModelsEnvironment } from '../repository/followed-models.js';
import type { ModelSettings } from '../sources/manifest.js';
import { type CheckedSource, readSource } from '../sources/model-sources.js';
import { NamedModels } from '../sources/named-models.js';
import {
  type RegistrationChange,
  readRegistration,
  readTarget,
  registrationChanges,
  type WantedModels,
} from './registration-changes.js';

export interface RegistrationsEnvironment {
  /** Writes the sources that were registered to the checkpoint, by `id@version`. */
  save(sources: ReadonlyMap<string, CheckedSource>): Promise<void>;
  /** The id is free: a model with this id may lie in the directory. */
  unregistered(id: string): void;
}

/** A model whose registration can be taken back. */
interface Registration {
  readonly model: FoundModel;
  /** Undefined for one that was named in the options. */
  readonly source: CheckedSource | undefined;
}

/** The models whose sources are named one by one, in the options or while the engine runs. */
export class Registrations {
  readonly #finders: Finders;
  readonly #search: ModelSearch;
  readonly #named = new NamedModels();
  readonly #followed: FollowedModels;
  readonly #followable: FollowedModelsEnvironment;
  readonly #environment: RegistrationsEnvironment;
  /** What was registered while an engine ran, by `id@version`, without bytes. */
  readonly #later = new Map<string, CheckedSource>();
  /** What a checkpoint has that could not be registered again, by `id@version`. */
  readonly #absent = new Map<string, CheckedSource>();
  /** Changes of one id take turns. */
  readonly #turns = new KeyedTasks();
  /** Tells apart bytes that were registered under one name. */
  #serial = 0;

  constructor(
    finders: Finders,
    search: ModelSearch,
    repository: ResolvedRepositoryOptions,
    followable: FollowedModelsEnvironment,
    environment: RegistrationsEnvironment,
  ) {
    this.#finders = finders;
    this.#search = search;
    this.#followable = followable;
    this.#environment = environment;
    // They are looked at again only when a load finds another file.
    this.#followed = new FollowedModels(this.#named, { ...repository, pollMs: 0 }, followable, 'sources');
  }

  /**
   * Takes over the models that the options name, and those of a checkpoint, without loading them.
   *
   * @param saved by `id@version`. What the options or the directory have now goes before it.
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a file of the options that cannot be read.
   */
  async open(
    named: Readonly<Record<string, CheckedSource>>,
    saved: Readonly<Record<string, CheckedSource>>,
  ): Promise<void> {
    const { catalog, log } = this.#followable;
    const found = await Promise.all(Object.entries(named).map(([id, source]) => this.#read(ownId(id), source)));
    for (const [name, source] of Object.entries(saved)) {
      const { id, version } = targetOf(name) as Target;
      // The program wins.
      if (found.some((model) => nameOf(model) === name)) continue;
      try {
        if (catalog.entry(id) !== undefined) throw takenNow(id);
        found.push(await this.#read(id, { ...source, version }));
        this.#later.set(name, source);
      } catch (cause) {
        // It may be there at the next start.
        this.#absent.set(name, source);
        log('warn', { model: name, reason: messageOf(cause) }, 'a model of the checkpoint is not registered again');
      }
    }
    for (const model of found) this.#named.put(model);
    await this.#followed.open(found);
  }

  /**
   * @param verify whether the model must be shown to load.
   * @returns the name of what was registered: `id@version`, or the id for a finder.
   * @throws InfermuxError as `ModelManager.register`.
   */
  async register(target: unknown, given: unknown, verify: boolean): Promise<string> {
    const { id, name, source, finder } = readRegistration(target, given);
    return this.#turns.inTurn(id, async () => {
      this.#checkFree(id, finder !== undefined);
      if (finder === undefined) await this.#replace({ model: await this.#read(id, source), source }, verify);
      else await this.#registerFinder(id, source, finder);
      return name;
    });
  }

  /** @throws InfermuxError as `ModelManager.unregister`. */
  async unregister(target: unknown): Promise<void> {
    const { id, version } = readTarget(target);
    await this.#turns.inTurn(id, async () => {
      const { catalog, pinned } = this.#followable;
      const isFinders = version === undefined && this.#finders.has(id);
      const gone = this.#named.delete(id, version);
      if (gone.length === 0 && !isFinders) throw notRegistered(target as string, catalog.ownerOf(id) !== undefined);
      this.#finders.delete(id);
      const before = new Map(this.#later);
      for (const model of gone) this.#later.delete(nameOf(model));
      try {
        if (before.size !== this.#later.size) await this.#save();
      } catch (cause) {
        for (const model of gone) this.#named.put(model);
        for (const [name, source] of before) this.#later.set(name, source);
        throw cause;
      }
      if (isFinders && catalog.ownerOf(id) === 'finder') await this.#search.undeploy(id);
      if (gone.length > 0) await this.#followed.withdraw(id, version, async () => undefined);
      if (catalog.entry(id) === undefined) await pinned.unpinId(id);
    });
    this.#environment.unregistered(id);
  }

  /**
   * What is to be registered and unregistered so that these models, and no others, are registered.
   *
   * @throws InfermuxError as {@link register}, but for what its load or a checkpoint shows.
   */
  async changesTo(wanted: WantedModels): Promise<RegistrationChange[]> {
    const changes = registrationChanges(wanted, { sources: this.#later, finders: this.#finders });
    const cleared = new Set(changes.map(({ clears }) => clears));
    for (const { name, source } of changes) {
      if (source === undefined) continue;
      const { id } = readTarget(name);
      if (!cleared.has(id)) this.#checkFree(id, isFinder(source));
      if (!isFinder(source) && source.path !== undefined) await readSource(name, source);
    }
    return changes;
  }

  /** As {@link FollowedModels.configure}. */
  configure(id: string, settings: ModelSettings | undefined): Promise<void> {
    return this.#followed.configure(id, settings);
  }

  loadFailed(): void {
    this.#followed.loadFailed();
  }

  replicaRunning(): void {
    this.#followed.replicaRunning();
  }

  close(): void {
    this.#followed.close();
  }

  /** @throws InfermuxError `MODEL_ALREADY_EXISTS` when the id is taken by what was not registered alike. */
  #checkFree(id: string, isFound: boolean): void {
    const owner = this.#followable.catalog.ownerOf(id);
    const hasFinder = this.#finders.has(id);
    const isOwn = isFound ? hasFinder && owner === 'finder' : owner === 'sources';
    const isTaken = owner !== undefined && !isOwn;
    if (isTaken || (hasFinder && !isFound)) throw alreadyThere(id);
  }

  async #registerFinder(id: string, given: ModelFinder, finder: ResolvedFinder): Promise<void> {
    this.#finders.set(id, given, finder);
    this.#search.forgetFailures(id);
    // What another finder has found for it is found again.
    if (this.#followable.catalog.ownerOf(id) === 'finder') await this.#search.undeploy(id);
  }

  /** Puts the model in its place, and what was there back when it cannot be served or saved. */
  async #replace(registration: Registration, verify: boolean): Promise<void> {
    const name = nameOf(registration.model);
    const before = this.#put(registration);
    try {
      await this.#followed.refresh(registration.model.id, verify);
      await this.#save();
    } catch (cause) {
      if (before !== undefined) this.#put(before);
      else {
        this.#named.delete(registration.model.id, registration.model.version);
        this.#later.delete(name);
      }
      await this.#followed.refresh(registration.model.id).catch(() => undefined);
      throw cause;
    }
  }

  /** Bytes are nowhere to be found again. */
  async #save(): Promise<void> {
    const all = [...this.#absent, ...this.#later];
    await this.#environment.save(new Map(all.filter(([, { path }]) => path !== undefined)));
  }

  #put({ model, source }: Registration): Registration | undefined {
    const name = nameOf(model);
    this.#absent.delete(name);
    const [before, sourceBefore] = [this.#named.put(model), this.#later.get(name)];
    if (source === undefined) this.#later.delete(name);
    else this.#later.set(name, { ...source, bytes: undefined });
    return before && { model: before, source: sourceBefore };
  }

  async #read(id: string, source: CheckedSource): Promise<FoundModel> {
    const model = await readSource(id, source, this.#named.files);
    // Other settings, or other bytes, make another model.
    const { path: _, version: __, bytes, ...settings } = source;
    this.#serial += bytes === undefined ? 0 : 1;
    return { ...model, mark: `${inspect(settings, { depth: 8 })} ${bytes === undefined ? 0 : this.#serial}` };
  }
}

function ownId(id: string): string {
  if (id !== '') checkModelId(id);
  if (id !== '' && !id.includes('@')) return id;
  throw new InfermuxError('INVALID_ARGUMENT', `models: an id must not be empty or hold "@", got ${show(id)}`);
}

function alreadyThere(id: string): InfermuxError {
  const message = `model ${show(id)} already exists: undeploy or unregister it first, or choose another id`;
  return new InfermuxError('MODEL_ALREADY_EXISTS', message);
}

function takenNow(id: string): InfermuxError {
  return new InfermuxError('MODEL_ALREADY_EXISTS', `model ${show(id)} is in the directory now`);
}

function notRegistered(target: string, isThere: boolean): InfermuxError {
  const hint = isThere ? 'it is in the directory, or was found: call undeploy' : 'there is none of this name';
  return new InfermuxError('MODEL_NOT_FOUND', `model ${show(target)} is not registered: ${hint}`);
}
