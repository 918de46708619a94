import { cloneError, InfermuxError, readingInput, show } from '../common/errors.js';
import { hashPoint } from '../common/hash-point.js';
import { SerialQueue } from '../common/serial-queue.js';
import { chooseShadows, chooseTarget, type EndpointOptions, readTraffic, type Traffic } from './traffic.js';

export interface EndpointsEnvironment {
  /** From 0 to below 1. */
  random(): number;
  /** @throws InfermuxError for a target that is not there. */
  checkTarget(target: string): void;
  /** Whether the name is also that of a model. */
  isModel(name: string): boolean;
  /** Writes down what endpoints there are to be, before that is acted on. */
  save(endpoints: SavedEndpoints): Promise<void>;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

export type SavedEndpoints = Readonly<Record<string, Traffic>>;

/** A snapshot. */
export interface EndpointReport extends Traffic {
  readonly name: string;
}

/** Where one request of an endpoint goes. */
export interface Route {
  readonly target: string;
  /** Targets that get a copy. */
  readonly shadows: readonly string[];
}

/** Public names whose requests are shared among targets. `engine.endpoints`. */
export class Endpoints {
  readonly #environment: EndpointsEnvironment;
  #endpoints: ReadonlyMap<string, Traffic> = new Map();
  readonly #turns = new SerialQueue();
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(environment: EndpointsEnvironment) {
    this.#environment = environment;
  }

  /**
   * Makes or changes an endpoint: the next request goes by it. A name that is also a model's stands for the endpoint.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `MODEL_NOT_FOUND` or `FAILED_PRECONDITION` for a target that is not there;
   *   `FAILED_PRECONDITION` when the checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async set(name: string, options: EndpointOptions): Promise<void> {
    checkName(name);
    const read = readingInput(`endpoint ${show(name)}`, () => readTraffic(`endpoint ${show(name)}`, options));
    for (const target of [...Object.keys(read.traffic), ...Object.keys(read.shadow)]) {
      this.#environment.checkTarget(target);
    }
    await this.#change((endpoints) => endpoints.set(name, read));
    if (this.#environment.isModel(name)) {
      this.#environment.log(
        'warn',
        { endpoint: name },
        'an endpoint is named like a model: requests for that name go by the endpoint',
      );
    }
  }

  /**
   * Takes an endpoint away; requests that were accepted are answered.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` for a name that is not there, or when the checkpoint cannot be written;
   *   `ENGINE_CLOSED`.
   */
  async remove(name: string): Promise<void> {
    await this.#change((endpoints) => {
      if (endpoints.delete(name)) return;
      const known = [...endpoints.keys()].map(show).join(', ') || 'none';
      throw new InfermuxError('FAILED_PRECONDITION', `no endpoint ${show(name)}; there are: ${known}`);
    });
  }

  list(): EndpointReport[] {
    return [...this.#endpoints].map(([name, { traffic, shadow }]) => ({
      name,
      traffic: { ...traffic },
      shadow: { ...shadow },
    }));
  }

  /**
   * Where a request for this name goes; undefined when it is no endpoint.
   *
   * @param shardKey requests with the same key go to the same target, as long as the weights stay.
   * @internal
   */
  route(name: string, shardKey: string | undefined): Route | undefined {
    const endpoint = this.#endpoints.get(name);
    if (endpoint === undefined) return undefined;
    const { traffic, shadow } = endpoint;
    const point = (...words: string[]) =>
      shardKey === undefined ? this.#environment.random() : hashPoint(name, shardKey, ...words);
    return {
      target: chooseTarget(traffic, point()),
      shadows: chooseShadows(shadow, (target) => point('shadow', target)),
    };
  }

  /** Endpoints with a target in the deployment. @internal */
  usersOf(deployment: string): string[] {
    const isIn = (target: string) => target === deployment || target.startsWith(`${deployment}/`);
    return this.list().flatMap(({ name, traffic, shadow }) =>
      Object.keys({ ...traffic, ...shadow }).some(isIn) ? [name] : [],
    );
  }

  /** @throws InfermuxError for what cannot be an endpoint. @internal */
  restore(saved: SavedEndpoints): void {
    this.#endpoints = new Map(
      Object.entries(saved).map(([name, options]) => [name, readTraffic(`endpoint ${show(name)}`, options)]),
    );
  }

  /** @internal */
  close(error: InfermuxError): void {
    this.#closed ??= error;
  }

  /** One change after the other: what is written down is what is acted on. */
  #change(work: (endpoints: Map<string, Traffic>) => void): Promise<void> {
    return this.#turns.run(async () => {
      if (this.#closed !== undefined) throw cloneError(this.#closed);
      const endpoints = new Map(this.#endpoints);
      work(endpoints);
      await this.#environment.save(Object.fromEntries(endpoints));
      this.#endpoints = endpoints;
    });
  }
}

function checkName(name: unknown): asserts name is string {
  if (typeof name === 'string' && name !== '') return;
  throw new InfermuxError('INVALID_ARGUMENT', `an endpoint's name must be a non-empty string, got ${show(name)}`);
}
