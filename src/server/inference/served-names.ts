import {
  type InferenceEngine,
  InfermuxError,
  type ModelInspection,
  type ModelReport,
  type ValueMetadata,
} from '../../index.js';
import { datatypeOf } from '../../open-inference/datatypes.js';

/** An input or output, as the protocol tells it: -1 for a dimension of any size. */
export interface TensorMetadata {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

export interface NamedMetadata {
  readonly name: string;
  /** None of an endpoint or a handler: a version cannot be asked of them. */
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

/** What a name stands for. */
export type NamedThing =
  | { readonly kind: 'model'; readonly target: string; readonly report: ModelReport }
  | { readonly kind: 'handler'; readonly deployment: string }
  | { readonly kind: 'endpoint'; readonly targets: readonly string[] };

const PLATFORM = 'onnxruntime_onnx';
const HANDLER_PLATFORM = 'infermux_handler';

/** Returns the engine's name of a version of a model. */
export function targetOf(name: string, version: string | undefined): string {
  return version === undefined || version === '' ? name : `${name}@${version}`;
}

/** Tells what the names are that requests use: models, endpoints, deployments with a handler, `deployment/model`. */
export class ServedNames {
  readonly #engine: InferenceEngine;

  constructor(engine: InferenceEngine) {
    this.#engine = engine;
  }

  /**
   * Returns what requests for this name go to.
   *
   * @throws InfermuxError `MODEL_NOT_FOUND`, `INVALID_ARGUMENT`.
   */
  async find(target: string): Promise<NamedThing> {
    const endpoint = this.#engine.endpoints.list().find(({ name }) => name === target);
    if (endpoint !== undefined) return { kind: 'endpoint', targets: Object.keys(endpoint.traffic) };
    const known = this.#model(target);
    if (known !== undefined) return known;
    const deployment = this.#deploymentOf(target);
    if (deployment?.options.handler !== undefined) return { kind: 'handler', deployment: deployment.name };
    const own =
      deployment === undefined || deployment.name === target ? target : target.slice(deployment.name.length + 1);
    // A finder may know it.
    return { kind: 'model', target: own, report: await this.#engine.models.find(own) };
  }

  /** All names that requests can use, but versions and `deployment/model`: models, then endpoints and handlers. */
  all(): string[] {
    return [...new Set([...this.#engine.models.list().map(({ id }) => id), ...this.others()])];
  }

  /** The endpoints, and the deployments with a handler. */
  others(): string[] {
    return [...this.#engine.endpoints.list().map(({ name }) => name), ...this.handlers()];
  }

  /** The deployments with a handler. */
  handlers(): string[] {
    const handled = this.#engine.deployments.list().filter(({ options }) => options.handler !== undefined);
    return handled.map(({ name }) => name);
  }

  /** What a failed request for this name counts for; undefined for what is not there. */
  countedAs(target: string): { readonly id: string; readonly version: number } | undefined {
    const endpoint = this.#engine.endpoints.list().find(({ name }) => name === target);
    if (endpoint !== undefined) {
      // That with the largest share.
      const [most] = Object.entries(endpoint.traffic).sort(([, left], [, right]) => right - left);
      return most && this.countedAs(most[0]);
    }
    const known = this.#model(target);
    if (known?.kind === 'model') return { id: known.report.id, version: known.report.version ?? 1 };
    const deployment = this.#deploymentOf(target);
    if (deployment?.options.handler !== undefined) return { id: deployment.name, version: 1 };
    return deployment === undefined || deployment.name === target
      ? undefined
      : this.countedAs(target.slice(deployment.name.length + 1));
  }

  /** Whether requests for this name go to a handler, perhaps among others. */
  isHandled(target: string): boolean {
    const endpoint = this.#engine.endpoints.list().find(({ name }) => name === target);
    const targets = endpoint === undefined ? [target] : Object.keys(endpoint.traffic);
    const isOne = (each: string) => this.#deploymentOf(each)?.options.handler !== undefined;
    // A model goes before a deployment of its name.
    return targets.some((each) => isOne(each) && this.#model(each) === undefined);
  }

  /** The deployment that a target names, alone or before a slash; undefined when it names none. */
  #deploymentOf(target: string) {
    const [name] = target.split('/', 1);
    return this.#engine.deployments.list().find((each) => each.name === target || each.name === name);
  }

  /**
   * Whether a request for this name would be taken now.
   *
   * @throws InfermuxError as {@link find}.
   */
  async isReady(target: string): Promise<boolean> {
    if (!this.#engine.ready) return false;
    const thing = await this.find(target);
    if (thing.kind === 'handler') return this.#engine.deployments.get(thing.deployment).ready;
    if (thing.kind === 'model') return thing.report.isReady;
    const targets = await Promise.all(thing.targets.map((each) => this.isReady(each)));
    return targets.some((isReady) => isReady);
  }

  /**
   * Tells the inputs and outputs of what has this name. A model that is not loaded is loaded.
   *
   * @param name as the request has it, which the answer repeats.
   * @throws InfermuxError as `engine.models.inspect`.
   */
  async metadata(name: string, version: string | undefined): Promise<NamedMetadata> {
    const thing = await this.find(targetOf(name, version));
    if (thing.kind === 'handler') return { name, versions: [], platform: HANDLER_PLATFORM, inputs: [], outputs: [] };
    if (thing.kind === 'endpoint')
      return { ...(await this.metadata(thing.targets[0] as string, undefined)), name, versions: [] };
    const inspection = await this.#engine.models.inspect(thing.target);
    return {
      name,
      versions: this.versionsOf(inspection.id),
      platform: PLATFORM,
      inputs: inspection.inputs.map(shownValue),
      outputs: inspection.outputs.map(shownValue),
    };
  }

  /**
   * Inspects the model of this name.
   *
   * @throws InfermuxError as `engine.models.inspect`; `FAILED_PRECONDITION` for a handler.
   */
  async inspect(name: string, version: string | undefined): Promise<ModelInspection> {
    const thing = await this.find(targetOf(name, version));
    if (thing.kind === 'model') return this.#engine.models.inspect(thing.target);
    if (thing.kind === 'endpoint') return this.inspect(thing.targets[0] as string, undefined);
    const message = `${JSON.stringify(name)} is a deployment with a handler, which has no configuration of a model`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** The versions of a model that are served. */
  versionsOf(id: string): string[] {
    return this.#engine.models.list().flatMap((report) => (report.id === id ? [String(report.version ?? 1)] : []));
  }

  #model(target: string): NamedThing | undefined {
    try {
      return { kind: 'model', target, report: this.#engine.models.get(target) };
    } catch (cause) {
      if (cause instanceof InfermuxError && cause.code === 'MODEL_NOT_FOUND') return undefined;
      throw cause;
    }
  }
}

function shownValue({ name, type, shape }: ValueMetadata): TensorMetadata {
  return { name, datatype: datatypeOf(type), shape: shape.map((size) => (typeof size === 'string' ? -1 : size)) };
}
