import { check, isText } from '../common/checks.js';
import { cloneError, InfermuxError, readingInput, show, showNames } from '../common/errors.js';
import { hashPoint } from '../common/hash-point.js';
import { SerialQueue } from '../common/tasks/serial-queue.js';
import { chooseShadows, chooseTarget, type EndpointOptions, readTraffic, type Traffic } from './traffic.js';

/** The surroundings of the endpoints. */
export interface EndpointsEnvironment {
  /** Uniform in [0, 1). */
  random(): number;
  /** @throws InfermuxError for an unknown target. */
  checkTarget(target: string): Promise<void>;
  /** Other endpoints are in force than before. */
  changed(): void;
  /** Whether a model has this name. */
  isModel(name: string): boolean;
  /** Writes the wanted endpoints to the checkpoint, before they are acted on. */
  save(endpoints: SavedEndpoints): Promise<void>;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

export type SavedEndpoints = Readonly<Record<string, Traffic>>;

/** A snapshot of an endpoint. */
export interface EndpointReport extends Traffic {
  readonly name: string;
}

/** Where one request of an endpoint goes. */
export interface Route {
  readonly target: string;
  /** Targets that get a copy of the request. */
  readonly shadows: readonly string[];
}

/** The endpoints of an engine, `engine.endpoints`: names whose requests are distributed over targets. */
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
   * Creates or changes an endpoint. It applies from the next request on. An endpoint with the name of a model gets the
   * requests for that name.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `MODEL_NOT_FOUND` or `FAILED_PRECONDITION` for an unknown target;
   *   `FAILED_PRECONDITION` when the checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async set(name: string, options: EndpointOptions): Promise<void> {
    check("an endpoint's name", name, isText);
    const read = readingInput(`endpoint ${show(name)}`, () => readTraffic(`endpoint ${show(name)}`, options));
    await this.#change(async (endpoints) => {
      for (const target of [...Object.keys(read.traffic), ...Object.keys(read.shadow)])
        await this.#environment.checkTarget(target);
      endpoints.set(name, read);
    });
    if (this.#environment.isModel(name)) {
      this.#environment.log(
        'warn',
        { endpoint: name },
        'an endpoint is named like a model: requests for that name go to the endpoint',
      );
    }
  }

  /**
   * Removes an endpoint; accepted requests are answered.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` for an unknown name, or when the checkpoint cannot be written;
   *   `ENGINE_CLOSED`.
   */
  async remove(name: string): Promise<void> {
    await this.#change(async (endpoints) => {
      if (endpoints.delete(name)) return;
      const known = showNames([...endpoints.keys()]);
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
   * Chooses where a request for this name goes; undefined when the name is no endpoint.
   *
   * @param shardKey requests with the same key go to the same target while the weights stay the same.
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

  /** Names of the endpoints with a target in the deployment. @internal */
  usersOf(deployment: string): string[] {
    const isIn = (target: string) => target === deployment || target.startsWith(`${deployment}/`);
    return this.list().flatMap(({ name, traffic, shadow }) =>
      Object.keys({ ...traffic, ...shadow }).some(isIn) ? [name] : [],
    );
  }

  /** @throws InfermuxError for a value that cannot be an endpoint. @internal */
  restore(saved: SavedEndpoints): void {
    this.#endpoints = new Map(
      Object.entries(saved).map(([name, options]) => [name, readTraffic(`endpoint ${show(name)}`, options)]),
    );
  }

  /** Refuses changes from now on. @internal */
  close(error: InfermuxError): void {
    this.#closed ??= error;
  }

  /** Makes one change after the other, so that changes are acted on in the order in which they are written. */
  #change(work: (endpoints: Map<string, Traffic>) => Promise<void>): Promise<void> {
    return this.#turns.run(async () => {
      if (this.#closed !== undefined) throw cloneError(this.#closed);
      const endpoints = new Map(this.#endpoints);
      await work(endpoints);
      await this.#environment.save(Object.fromEntries(endpoints));
      this.#endpoints = endpoints;
      this.#environment.changed();
    });
  }
}
