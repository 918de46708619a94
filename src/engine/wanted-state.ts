import { check, checkOptions, isBoolean, isObject } from '../common/checks.js';
import { InfermuxError, readingInput, show } from '../common/errors.js';
import { SerialQueue } from '../common/serial-queue.js';
import { isSameData } from '../common/values/realm.js';
import { DEFAULT_DEPLOYMENT } from '../deployments/config/deployment-name.js';
import type { DeploymentOptions } from '../deployments/config/deployment-options.js';
import type { Deployments } from '../deployments/deployments.js';
import type { Goal } from '../deployments/goals.js';
import type { Endpoints } from '../endpoints/endpoints.js';
import { type EndpointOptions, readTraffic } from '../endpoints/traffic.js';
import type { ModelFinder } from '../models/finder/finder.js';
import type { ManagedModels } from '../models/managed-models.js';
import type { ModelManager } from '../models/model-manager.js';
import type { ModelSources } from '../models/sources/model-sources.js';
import type { Replica } from '../replicas/replica.js';
import type { Dispatcher } from '../routing/dispatcher.js';

/** What an engine should have. A part that is not named stays as it is. */
export interface WantedState {
  /**
   * Deployments by name, each with all its options. Others are deleted, but for `default`, which stays as it is unless it
   * is named.
   */
  readonly deployments?: Readonly<Record<string, DeploymentOptions>> | undefined;
  /** Endpoints by name. Others are removed. */
  readonly endpoints?: Readonly<Record<string, EndpointOptions>> | undefined;
  /** Models by id or `id@version`, as for `models.register`. Others that were registered are unregistered. */
  readonly models?: Readonly<Record<string, ModelSources[string] | ModelFinder>> | undefined;
}

export interface ApplyOptions {
  /** Whether only to say what would change. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** One change of what an engine has. */
export interface AppliedChange {
  readonly kind: 'model' | 'deployment' | 'endpoint';
  /** `id@version` for a model, or the id for one with a finder of its own. */
  readonly name: string;
  readonly action: 'create' | 'change' | 'delete';
  /** Names of the options that change; for a change alone. */
  readonly options: readonly string[];
}

export interface ApplyReport {
  /** In the order in which they are made. */
  readonly changes: readonly AppliedChange[];
  /** Goals of the deployments that change; none after a dry run. */
  readonly goals: readonly Goal[];
}

export interface WantedStateParts {
  readonly deployments: Deployments<Dispatcher<Replica>>;
  readonly endpoints: Endpoints;
  readonly models: ModelManager;
  readonly managed: Pick<ManagedModels, 'registrations'>;
}

/** A change, and how it is made. */
interface Step extends AppliedChange {
  make(): Promise<Goal | undefined | unknown>;
}

const IS_STATE = { deployments: isObject, endpoints: isObject, models: isObject };

/** Brings an engine to the state that is wanted, in one call. */
export class WantedStates {
  readonly #parts: WantedStateParts;
  readonly #turns = new SerialQueue();

  constructor(parts: WantedStateParts) {
    this.#parts = parts;
  }

  /** @throws InfermuxError as `InferenceEngine.apply`. */
  apply(wanted: WantedState, options: ApplyOptions): Promise<ApplyReport> {
    const { dryRun = false } = readingInput('apply', () => checkOptions('apply', options, { dryRun: isBoolean }));
    const state = readingInput('the wanted state', () => checkOptions('the wanted state', wanted, IS_STATE));
    return this.#turns.run(async () => {
      // Everything is checked before anything changes.
      const steps = this.#steps(state);
      const changes = steps.map(({ kind, name, action, options: changed }) => ({
        kind,
        name,
        action,
        options: changed,
      }));
      const goals: Goal[] = [];
      for (const step of dryRun ? [] : steps) {
        const made = await step.make();
        if (step.kind === 'deployment') goals.push(made as Goal);
      }
      return { changes, goals };
    });
  }

  /** What comes is there before what names it, and what goes goes after that. */
  #steps({ deployments, endpoints, models }: WantedState): Step[] {
    const all = [...this.#ofModels(models), ...this.#ofDeployments(deployments), ...this.#ofEndpoints(endpoints)];
    const order = ['model', 'deployment', 'endpoint'];
    const going = all.filter(({ action }) => action === 'delete');
    const byOrder = (left: Step, right: Step) => order.indexOf(left.kind) - order.indexOf(right.kind);
    return [
      ...all.filter(({ action }) => action !== 'delete').sort(byOrder),
      ...going.sort((left, right) => byOrder(right, left)),
    ];
  }

  #ofModels(wanted: WantedState['models']): Step[] {
    if (wanted === undefined) return [];
    const { models, managed } = this.#parts;
    return managed.registrations.changesTo(wanted).map(({ name, action, source }) => ({
      ...{ kind: 'model', name, action, options: [] },
      make: async () => (action === 'delete' ? models.unregister(name) : models.register(name, source as string)),
    }));
  }

  #ofDeployments(wanted: WantedState['deployments']): Step[] {
    if (wanted === undefined) return [];
    const { deployments } = this.#parts;
    const kind = 'deployment';
    const steps = Object.entries(wanted).flatMap(([name, given]): Step[] => {
      check(`the wanted state.deployments[${show(name)}]`, given, isObject);
      const changed = deployments.changesOf(name, given);
      if (changed?.length === 0) return [];
      const action = changed === undefined ? 'create' : 'change';
      return [{ kind, name, action, options: changed ?? [], make: () => deployments.apply(name, given) }];
    });
    const others = deployments.all.filter(({ name, state }) => state !== 'deleting' && !Object.hasOwn(wanted, name));
    for (const { name } of others) {
      if (name === DEFAULT_DEPLOYMENT) continue;
      steps.push({
        kind,
        name,
        action: 'delete',
        options: [],
        make: () => deployments.delete(name, { missingOk: true }),
      });
    }
    return steps;
  }

  #ofEndpoints(wanted: WantedState['endpoints']): Step[] {
    if (wanted === undefined) return [];
    const { endpoints } = this.#parts;
    const kind = 'endpoint';
    const present = new Map(endpoints.list().map(({ name, ...traffic }) => [name, traffic]));
    const steps = Object.entries(wanted).flatMap(([name, given]): Step[] => {
      if (name === '') throw new InfermuxError('INVALID_ARGUMENT', "an endpoint's name must be a non-empty string");
      const traffic = readTraffic(`endpoint ${show(name)}`, given);
      const before = present.get(name);
      const changed = (['traffic', 'shadow'] as const).filter((part) => !isSameData(before?.[part], traffic[part]));
      if (changed.length === 0) return [];
      const action = before === undefined ? 'create' : 'change';
      const options = before === undefined ? [] : changed;
      return [{ kind, name, action, options, make: () => endpoints.set(name, traffic) }];
    });
    for (const name of present.keys()) {
      if (!Object.hasOwn(wanted, name))
        steps.push({ kind, name, action: 'delete', options: [], make: () => endpoints.remove(name) });
    }
    return steps;
  }
}
