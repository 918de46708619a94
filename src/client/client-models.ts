import type { RunOptions } from '../contracts/run-options.js';
import { checkDatatype, typeOf } from '../open-inference/datatypes.js';
import type { ValueMetadata } from '../tensors/tensor.js';
import type { CallsUnderWay } from './calls-under-way.js';
import { withRetries } from './retries.js';
import type { CallTerms, IndexInfo, ModelInfo, Transport, WireMetadata } from './transports/transport.js';

/** A model as the server lists it. */
export interface ListedModel {
  readonly id: string;
  /** Undefined if the server does not report it. */
  readonly version: number | undefined;
  /** Whether a request for it would be accepted now; undefined if the server does not report it. */
  readonly isReady: boolean | undefined;
  /** Why it is not ready. */
  readonly problem: string | undefined;
}

/** A model as the server describes it. */
export interface DescribedModel {
  readonly id: string;
  readonly versions: readonly number[];
  readonly platform: string;
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
}

type TermOptions = Pick<RunOptions, 'signal' | 'timeoutMs' | 'deadline'>;

/** The models of a server. `client.models`. */
export class ClientModels {
  readonly #transport: Transport;
  readonly #retries: number;
  readonly #calls: CallsUnderWay;
  readonly #terms: (options: TermOptions) => CallTerms;

  /** @internal */
  constructor(transport: Transport, retries: number, calls: CallsUnderWay, terms: (options: TermOptions) => CallTerms) {
    this.#transport = transport;
    this.#retries = retries;
    this.#calls = calls;
    this.#terms = terms;
  }

  /** Lists the models. If the server refuses admin requests, only their names are returned. */
  async list(options: TermOptions = {}): Promise<ListedModel[]> {
    return (await this.#safe(options, (terms) => this.#transport.index(terms))).map(listed);
  }

  /** Returns the inputs and outputs of a model. @throws InfermuxError `MODEL_NOT_FOUND` and others, as the engine. */
  async get(target: string, options: TermOptions = {}): Promise<DescribedModel> {
    return described(await this.#safe(options, (terms) => this.#transport.metadata(target, terms)));
  }

  /** Whether a request for the model would be accepted now. False also if there is no such model. */
  ready(target: string, options: TermOptions = {}): Promise<boolean> {
    return this.#safe(options, (terms) => this.#transport.isReady(target, terms));
  }

  /** Loads a model. @throws InfermuxError as the engine; `FAILED_PRECONDITION` when the admin part is switched off. */
  async load(target: string, options: TermOptions = {}): Promise<void> {
    await this.#try(options, false, (terms) => this.#transport.load(target, terms));
  }

  /** Releases the sessions of a model. @throws InfermuxError as {@link load}. */
  async unload(target: string, options: TermOptions = {}): Promise<void> {
    await this.#try(options, false, (terms) => this.#transport.unload(target, terms));
  }

  #safe<T>(options: TermOptions, ask: (terms: CallTerms) => Promise<T>): Promise<T> {
    return this.#try(options, true, ask);
  }

  #try<T>(options: TermOptions, isIdempotent: boolean, ask: (terms: CallTerms) => Promise<T>): Promise<T> {
    const terms = this.#terms(options);
    return this.#calls.track(() => withRetries(this.#retries, isIdempotent, terms, () => ask(terms)));
  }
}

function listed({ name: id, version, state, reason }: IndexInfo): ListedModel {
  return {
    id,
    version: version === undefined || version === '' ? undefined : Number(version),
    isReady: state === undefined ? undefined : state === 'READY',
    problem: reason === undefined || reason === '' ? undefined : reason,
  };
}

function described({ name: id, versions = [], platform, inputs, outputs }: ModelInfo): DescribedModel {
  const readValue = (list: string) => (value: WireMetadata, index: number) => ({
    name: value.name,
    type: typeOf(checkDatatype(list, index, value.datatype)),
    // JSON of 64-bit integers may be text.
    shape: value.shape.map((size) => (Number(size) === -1 ? '' : Number(size))),
  });
  return {
    ...{ id, versions: versions.map(Number), platform },
    inputs: inputs.map(readValue('inputs')),
    outputs: outputs.map(readValue('outputs')),
  };
}
