import { check, checkOptions, isObject } from '../../common/checks.js';
import { InfermuxError, readingInput, show } from '../../common/errors.js';
import { copyOptions } from '../../deployments/checkpoint/saved-deployments.js';
import { checkDeploymentName } from '../../deployments/config/deployment-name.js';
import type { DeploymentOptions } from '../../deployments/config/deployment-options.js';
import type { Goal } from '../../deployments/goals.js';
import { type EndpointOptions, readTraffic, type Traffic } from '../../endpoints/traffic.js';
import type { ModelFinder } from '../../models/finder/finder.js';
import { readRegistrations, type WantedModels } from '../../models/registrations/registration-changes.js';
import type { ModelSources } from '../../models/sources/model-sources.js';

/** What an engine should have. A missing property means that nothing of that kind changes. */
export interface WantedState {
  /**
   * Deployments by name, each with all its options. Others are deleted, except `default`, which stays as it is unless
   * it is listed.
   */
  readonly deployments?: Readonly<Record<string, DeploymentOptions>> | undefined;
  /** Endpoints by name. Others are removed. */
  readonly endpoints?: Readonly<Record<string, EndpointOptions>> | undefined;
  /** Models by id or `id@version`, as for `models.register`. Others that were registered are unregistered. */
  readonly models?: Readonly<Record<string, ModelSources[string] | ModelFinder>> | undefined;
}

export interface ApplyOptions {
  /** Whether only to return what would change. Default false. */
  readonly dryRun?: boolean | undefined;
}

/** One change of what an engine has. */
export interface AppliedChange {
  readonly kind: 'model' | 'deployment' | 'endpoint';
  /** `id@version` for a model, or the id for one with a finder of its own. */
  readonly name: string;
  readonly action: 'create' | 'change' | 'delete';
  /** Names of the options that change; only if the action is a change. */
  readonly options: readonly string[];
}

export interface ApplyReport {
  /** In the order in which they are made. */
  readonly changes: readonly AppliedChange[];
  /** Goals of the wanted deployments that change, or whose last change is not complete yet; none after a dry run. */
  readonly goals: readonly Goal[];
}

/** A copy of a wanted state, which its caller cannot change. */
export interface ReadState {
  readonly deployments: ReadonlyMap<string, DeploymentOptions> | undefined;
  readonly endpoints: ReadonlyMap<string, Traffic> | undefined;
  readonly models: WantedModels | undefined;
}

const IS_STATE = { deployments: isObject, endpoints: isObject, models: isObject };

/** Reads each part of the state once. @throws InfermuxError `INVALID_ARGUMENT` naming the part. */
export function readState(wanted: WantedState): ReadState {
  const where = 'the wanted state';
  return readingInput(where, () => {
    const { deployments, endpoints, models } = checkOptions(where, wanted, IS_STATE);
    return {
      deployments: deployments && mapOf(deployments, readDeployment),
      endpoints: endpoints && mapOf(endpoints, readEndpoint),
      models: models && readRegistrations(models),
    };
  });
}

function mapOf<From, To>(
  record: Readonly<Record<string, From>>,
  read: (name: string, value: From) => To,
): ReadonlyMap<string, To> {
  return new Map(Object.entries(record).map(([name, value]) => [name, read(name, value)]));
}

function readDeployment(name: string, given: DeploymentOptions): DeploymentOptions {
  const where = `the wanted state.deployments[${show(name)}]`;
  checkDeploymentName(name);
  return copyOptions(where, check(where, given, isObject));
}

function readEndpoint(name: string, given: EndpointOptions): Traffic {
  if (name === '') throw new InfermuxError('INVALID_ARGUMENT', "an endpoint's name must be a non-empty string");
  return readTraffic(`endpoint ${show(name)}`, given);
}
