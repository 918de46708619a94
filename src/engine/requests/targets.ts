import { InfermuxError, show, showNames } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import { handlerModel } from '../../contracts/handler.js';
import { DEFAULT_DEPLOYMENT } from '../../deployments/config/deployment-name.js';
import type { Deployment } from '../../deployments/deployment.js';
import type { Deployments } from '../../deployments/deployments.js';
import type { ModelCatalog } from '../../models/model-catalog.js';
import type { RegisteredModel } from '../../models/registered-model.js';
import type { Replica } from '../../replicas/replica.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import { isSought, type RoutedModel, soughtModel } from '../../routing/pending-request.js';

/** A deployment whose requests wait in a dispatcher. */
export type EngineDeployment = Deployment<Dispatcher<Replica>>;

/** The deployment and model that a request goes to. */
export type Destination =
  | { readonly deployment: EngineDeployment; readonly isHandled: false; readonly model: RegisteredModel | RoutedModel }
  | { readonly deployment: EngineDeployment; readonly isHandled: true; readonly model: RoutedModel };

/** Resolves a request's target: a model, a model of a deployment, or a deployment with a handler. */
export class Targets {
  readonly #catalog: ModelCatalog;
  readonly #deployments: Deployments<Dispatcher<Replica>>;
  readonly #endpoints: () => readonly string[];
  readonly #refusalOf: (target: string) => InfermuxError | undefined;
  /** Destinations of models, by the name that requests use. */
  readonly #known = new Map<string, Destination>();

  /**
   * @param endpoints names of the endpoints, for messages.
   * @param refusalOf says why a model is not looked for; undefined when it is.
   */
  constructor(
    catalog: ModelCatalog,
    deployments: Deployments<Dispatcher<Replica>>,
    endpoints: () => readonly string[],
    refusalOf: (target: string) => InfermuxError | undefined,
  ) {
    this.#refusalOf = refusalOf;
    this.#catalog = catalog;
    this.#deployments = deployments;
    this.#endpoints = endpoints;
  }

  /**
   * @param deploymentName the deployment that the request names, if it names one.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED`; `FAILED_PRECONDITION` for a
   *   deployment that does not exist, or is meant to have no replicas.
   */
  resolve(target: string, deploymentName: string | undefined): Destination {
    const known = deploymentName === undefined ? this.#known.get(target) : undefined;
    const destination = known ?? this.find(target, deploymentName);
    const { deployment, isHandled, model } = destination;
    const refusal = this.refusalOf(deployment, model);
    if (refusal !== undefined) throw refusal;
    // The destination of a handler's target depends on what its replicas report.
    const isLasting = deploymentName === undefined && !isHandled && !isSought(destination.model);
    if (known === undefined && isLasting) this.#known.set(target, destination);
    return destination;
  }

  /** Forgets all destinations. Call it when a name may have a new meaning. */
  forget(): void {
    this.#known.clear();
  }

  /** Why the deployment takes no request for the model: it is meant to have no replicas. */
  refusalOf(deployment: EngineDeployment, model: RoutedModel): InfermuxError | undefined {
    if (!deployment.isEmpty) return undefined;
    // It would be looked for in vain.
    if (isSought(model)) return this.explained(this.#catalog.whyNot(model.id));
    const message = `deployment ${show(deployment.name)} has no replicas (replicas: 0): name another, or update it`;
    return new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** As {@link resolve}, for a deployment that may have no replicas. */
  find(target: string, deploymentName: string | undefined): Destination {
    if (deploymentName !== undefined) {
      const deployment = this.#deployments.require(deploymentName);
      return this.#in(deployment, isHandled(deployment) && target === deploymentName ? undefined : target);
    }
    if (this.#catalog.find(target) === undefined) {
      const elsewhere = typeof target === 'string' ? this.#elsewhere(target) : undefined;
      if (elsewhere !== undefined) return elsewhere;
    }
    return this.#in(this.#deployments.require(DEFAULT_DEPLOYMENT), target);
  }

  /** Returns the destination of a target that names a deployment; undefined when it names none. */
  #elsewhere(target: string): Destination | undefined {
    const own = this.#deployments.find(target);
    if (own !== undefined && isHandled(own)) return this.#in(own, undefined);
    const slash = target.indexOf('/');
    if (slash === -1) return undefined;
    const [name, model] = [target.slice(0, slash), target.slice(slash + 1)];
    const deployment = this.#deployments.find(name);
    if (deployment !== undefined) return this.#in(deployment, model);
    // The target names a deployment that is gone or never existed: `require` throws.
    if (this.#catalog.find(model) !== undefined) this.#deployments.require(name);
    return undefined;
  }

  /** @throws InfermuxError as {@link ModelCatalog.resolve}, with the other things that the name could have meant. */
  #model(target: string | undefined): RegisteredModel | RoutedModel {
    try {
      return this.#catalog.resolve(target);
    } catch (cause) {
      if (!(cause instanceof InfermuxError) || cause.code !== 'MODEL_NOT_FOUND' || target === undefined) throw cause;
      if (this.#deployments.find(target) !== undefined) {
        const message = `deployment ${show(target)} has no handler: name one of its models, as ${show(`${target}/model`)}`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      const refusal = this.#refusalOf(target);
      if (refusal === undefined) return soughtModel(target);
      throw this.explained(refusal);
    }
  }

  /** Adds to the error of a model that is not there what else its name could have meant. */
  explained(error: InfermuxError): InfermuxError {
    if (error.code !== 'MODEL_NOT_FOUND') return error;
    const handled = this.#deployments.all.filter(isHandled).map(({ name }) => name);
    const others = [...named('deployments with a handler', handled), ...named('endpoints', this.#endpoints())];
    if (others.length === 0) return error;
    const { code, message, cause, retryable, retryAfterMs } = error;
    return new InfermuxError(code, [message, ...others].join('; '), { cause, retryable, retryAfterMs });
  }

  #in(deployment: EngineDeployment, target: string | undefined): Destination {
    if (!isHandled(deployment)) return { deployment, isHandled: false, model: this.#model(target) };
    if (target !== undefined) checkModelId(target);
    const known = target === undefined || deployment.hasOwnModels ? undefined : this.#catalog.find(target);
    return { deployment, isHandled: true, model: known ?? handlerModel(target) };
  }
}

function named(what: string, names: readonly string[]): string[] {
  return names.length === 0 ? [] : [`${what}: ${showNames(names)}`];
}

function isHandled({ options }: EngineDeployment): boolean {
  return options.handler !== undefined;
}
