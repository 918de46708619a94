import { checkOptions, isBoolean } from '../../common/checks.js';
import { readingInput } from '../../common/errors.js';
import { SerialQueue } from '../../common/tasks/serial-queue.js';
import { isSameData } from '../../common/values/realm.js';
import { DEFAULT_DEPLOYMENT } from '../../deployments/config/deployment-name.js';
import type { DeploymentPlan } from '../../deployments/deployment-entries.js';
import type { Deployments } from '../../deployments/deployments.js';
import type { Goal } from '../../deployments/goals.js';
import type { Endpoints } from '../../endpoints/endpoints.js';
import type { ManagedModels } from '../../models/managed-models.js';
import type { ModelManager } from '../../models/model-manager.js';
import { nameOf } from '../../models/registered-model.js';
import type { RegistrationChange } from '../../models/registrations/registration-changes.js';
import type { Replica } from '../../replicas/replica.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import type { CapacityCheck } from '../wiring/capacity-check.js';
import { checkTargets, type EndState } from './end-state.js';
import {
  type AppliedChange,
  type ApplyOptions,
  type ApplyReport,
  type ReadState,
  readState,
  type WantedState,
} from './wanted-state.js';

export interface WantedStateParts {
  readonly deployments: Deployments<Dispatcher<Replica>>;
  readonly endpoints: Endpoints;
  readonly models: ModelManager;
  readonly managed: Pick<ManagedModels, 'registrations' | 'catalog' | 'search' | 'resolve'>;
  readonly capacity: CapacityCheck;
}

/** Something that is done so that the state is as wanted. */
interface Step {
  /** Undefined when only the goal of an earlier change is pursued again. */
  readonly change: AppliedChange | undefined;
  /** Steps of a lower place come first. */
  readonly place: number;
  /** @returns the goal of a deployment's change. */
  make(): Promise<Goal | undefined>;
}

/** What gives others its place comes first, what comes is there before what names it, and what goes goes after that. */
const PLACES = {
  ...{ model: 0, freed: 1, shrinks: 2, grows: 3, endpoint: 4 },
  gone: { endpoint: 5, deployment: 6, model: 7 },
} as const;

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
    const state = readState(wanted);
    return this.#turns.run(async () => {
      // Everything is checked before anything changes.
      const steps = await this.#stepsTo(state);
      const goals: Goal[] = [];
      for (const { make } of dryRun ? [] : steps) {
        const goal = await make();
        if (goal !== undefined) goals.push(goal);
      }
      return { changes: steps.flatMap(({ change }) => change ?? []), goals };
    });
  }

  async #stepsTo({ deployments, endpoints, models }: ReadState): Promise<Step[]> {
    const { managed, capacity } = this.#parts;
    const registrations = models === undefined ? [] : await managed.registrations.changesTo(models);
    const plans = await this.#plansOf(deployments);
    const leaving = deployments === undefined ? [] : this.#others(deployments);
    capacity.checkAll(plans, leaving);
    if (endpoints !== undefined) {
      await checkTargets(endpoints, this.#endOf(plans, leaving, registrations), (model) => this.#find(model));
    }
    const steps = [
      ...registrations.map((change) => this.#registration(change)),
      ...[...plans].flatMap(([name, plan]) => this.#deployment(name, plan, deployments) ?? []),
      ...leaving.map((name) => this.#deletion(name)),
      ...this.#ofEndpoints(endpoints),
    ];
    return steps.sort((left, right) => left.place - right.place);
  }

  async #plansOf(wanted: ReadState['deployments']): Promise<Map<string, DeploymentPlan>> {
    const plans = new Map<string, DeploymentPlan>();
    for (const [name, given] of wanted ?? []) plans.set(name, await this.#parts.deployments.planOf(name, given));
    return plans;
  }

  /** Deployments that are not wanted. */
  #others(wanted: ReadonlyMap<string, unknown>): string[] {
    const present = this.#parts.deployments.all.filter(({ state }) => state !== 'deleting');
    return present.map(({ name }) => name).filter((name) => name !== DEFAULT_DEPLOYMENT && !wanted.has(name));
  }

  #endOf(
    plans: ReadonlyMap<string, DeploymentPlan>,
    leaving: readonly string[],
    registrations: readonly RegistrationChange[],
  ): EndState {
    const deployments = new Map<string, boolean>();
    for (const { name, options, state } of this.#parts.deployments.all)
      if (state !== 'deleting' && !leaving.includes(name)) deployments.set(name, options.handler !== undefined);
    for (const [name, { resolved }] of plans) deployments.set(name, resolved.handler !== undefined);
    const coming = registrations.filter(({ action }) => action !== 'delete').map(({ name }) => name);
    const going = registrations.filter(({ action }) => action === 'delete').map(({ name }) => name);
    return { deployments, coming: new Set(coming), going: new Set(going) };
  }

  /** @throws InfermuxError for a model that is not there now, and that no finder may find. */
  async #find(model: string): Promise<readonly string[]> {
    const { managed } = this.#parts;
    const { catalog, search } = managed;
    if (catalog.find(model) === undefined && search.mayFind(model)) return [model];
    const found = catalog.find(model) ?? (await managed.resolve(model));
    const all = catalog.entry(found.id)?.served ?? [];
    // One that is named by its id alone is the latest that is left.
    return model === found.id ? all.map(nameOf) : [nameOf(found)];
  }

  #registration({ name, action, source, clears }: RegistrationChange): Step {
    const { models } = this.#parts;
    return {
      change: { kind: 'model', name, action, options: [] },
      place: action === 'delete' ? PLACES.gone.model : PLACES.model,
      make: async () => {
        if (clears !== undefined) await models.unregister(clears);
        await (source === undefined ? models.unregister(name) : models.register(name, source));
        return undefined;
      },
    };
  }

  #deployment(
    name: string,
    { resolved, changed, to, goal }: DeploymentPlan,
    wanted: ReadState['deployments'],
  ): Step | undefined {
    const { deployments, capacity } = this.#parts;
    const isAsWanted = changed?.length === 0;
    // The state is not reached before its goal is.
    if (isAsWanted && goal?.status === 'reached') return undefined;
    const from = changed === undefined ? 0 : deployments.require(name).targetReplicas;
    const action = changed === undefined ? 'create' : 'change';
    return {
      change: isAsWanted ? undefined : { kind: 'deployment', name, action, options: changed ?? [] },
      place: capacity.takesMore(name, resolved, from, to) ? PLACES.grows : PLACES.shrinks,
      make: () => deployments.apply(name, wanted?.get(name)),
    };
  }

  #deletion(name: string): Step {
    const { deployments, capacity } = this.#parts;
    return {
      change: { kind: 'deployment', name, action: 'delete', options: [] },
      place: capacity.isStrict ? PLACES.freed : PLACES.gone.deployment,
      make: () => deployments.delete(name, { missingOk: true }),
    };
  }

  #ofEndpoints(wanted: ReadState['endpoints']): Step[] {
    if (wanted === undefined) return [];
    const { endpoints } = this.#parts;
    const kind = 'endpoint';
    const present = new Map(endpoints.list().map(({ name, ...traffic }) => [name, traffic]));
    const steps = [...wanted].flatMap(([name, traffic]): Step[] => {
      const before = present.get(name);
      const changed = (['traffic', 'shadow'] as const).filter((part) => !isSameData(before?.[part], traffic[part]));
      if (changed.length === 0) return [];
      const action = before === undefined ? 'create' : 'change';
      const options = before === undefined ? [] : changed;
      const make = () => endpoints.set(name, traffic).then(() => undefined);
      return [{ change: { kind, name, action, options }, place: PLACES.endpoint, make }];
    });
    for (const name of present.keys()) {
      if (wanted.has(name)) continue;
      const make = () => endpoints.remove(name).then(() => undefined);
      steps.push({ change: { kind, name, action: 'delete', options: [] }, place: PLACES.gone.endpoint, make });
    }
    return steps;
  }
}
