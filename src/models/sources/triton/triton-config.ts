import { InfermuxError, messageOf, show } from '../../../common/errors.js';
import { isPlainObject } from '../../../common/values/realm.js';
import type { WarmUpInput, WarmUpInputs } from '../../../contracts/model-reference.js';
import type { TensorType } from '../../../tensors/tensor.js';
import { checkManifest, type Manifest, MOST_WARM_UPS } from '../manifest.js';
import { parseTextFormat } from './text-format.js';

/** The settings of a model in a configuration of Triton, as in a `model.json`. */
export interface TritonConfig {
  readonly manifest: Manifest;
  /** Settings without a counterpart, as texts. */
  readonly ignored: readonly string[];
}

/** A message, from its text format or from JSON. */
type Message = Readonly<Record<string, unknown>>;

const TYPES: Readonly<Record<string, TensorType>> = {
  TYPE_BOOL: 'bool',
  TYPE_UINT8: 'uint8',
  TYPE_UINT16: 'uint16',
  TYPE_UINT32: 'uint32',
  TYPE_UINT64: 'uint64',
  TYPE_INT8: 'int8',
  TYPE_INT16: 'int16',
  TYPE_INT32: 'int32',
  TYPE_INT64: 'int64',
  TYPE_FP16: 'float16',
  TYPE_FP32: 'float32',
  TYPE_FP64: 'float64',
  TYPE_STRING: 'string',
};

/** Fields that need nothing here, because the model's file or its folder says the same. */
const TOLD_BY_FILE = ['name', 'runtime', 'max_batch_size'];
/** Names that Triton has for what runs models here. */
const OWN_BACKENDS = ['', 'onnxruntime', 'onnxruntime_onnx'];
/** Parts of an input or an output that its model's file tells, too. */
const TOLD_OF_VALUE = ['name', 'data_type', 'dims', 'format', 'optional'];

/**
 * Reads a configuration of Triton: the text of a `config.pbtxt`, or the same as JSON.
 *
 * @param where names it in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for a text that is neither.
 */
export function readTritonConfig(text: string, where: string): TritonConfig {
  const config = text.trimStart().startsWith('{') ? parseJson(text, where) : parseTextFormat(text, where);
  const reader = new ConfigReader(config);
  return { manifest: checkManifest(reader.read(), where), ignored: reader.ignored };
}

function parseJson(text: string, where: string): Message {
  try {
    const value: unknown = JSON.parse(text);
    if (isPlainObject(value)) return value as Message;
    throw new Error(`expected an object, got ${show(value)}`);
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} is not JSON: ${messageOf(cause)}`, { cause });
  }
}

class ConfigReader {
  readonly ignored: string[] = [];
  readonly #config: Message;
  readonly #maxBatch: number;

  constructor(config: Message) {
    this.#config = config;
    this.#maxBatch = numberOf(config['max_batch_size'], 0);
  }

  read(): Readonly<Record<string, unknown>> {
    const manifest: Record<string, unknown> = {};
    for (const [field, value] of Object.entries(this.#config)) {
      if (TOLD_BY_FILE.includes(field)) continue;
      if (field === 'input' || field === 'output') this.#checkValues(field, messagesOf(value));
      else if (field === 'platform' || field === 'backend') this.#checkBackend(field, oneOf(value));
      else if (field === 'version_policy') manifest['versions'] = this.#versions(messageIn(value));
      else if (field === 'instance_group') this.#checkInstances(messagesOf(value));
      else if (field === 'dynamic_batching') this.#checkBatching(messageIn(value));
      else if (field === 'model_warmup') manifest['warmUp'] = this.#warmUps(messagesOf(value));
      else if (field === 'parameters') Object.assign(manifest, this.#parameters(value));
      else if (field === 'default_model_filename') this.#checkFilename(oneOf(value));
      else this.ignored.push(field);
    }
    const batching = this.#batching();
    if (batching !== undefined) manifest['batching'] = batching;
    return manifest;
  }

  /** Without a size the model's file decides; 0 says that its shapes are whole, so that no requests are joined. */
  #batching(): object | false | undefined {
    const { dynamic_batching: given } = this.#config;
    if (this.#maxBatch < 1) {
      if (given !== undefined) this.ignored.push('dynamic_batching (it needs a max_batch_size of 1 or more)');
      return this.#maxBatch === 0 && 'max_batch_size' in this.#config ? false : undefined;
    }
    const { max_queue_delay_microseconds: delay } = given === undefined ? {} : messageIn(given);
    const maxWaitMs = delay === undefined ? {} : { maxWaitMs: numberOf(delay, 0) / 1_000 };
    return { maxSize: this.#maxBatch, ...maxWaitMs };
  }

  #checkBackend(field: string, name: unknown): void {
    if (!OWN_BACKENDS.includes(name as string)) this.ignored.push(`${field} ${show(name)} (models are of ONNX)`);
  }

  #checkBatching(batching: Message): void {
    this.#ignoreOthers('dynamic_batching', batching, ['max_queue_delay_microseconds']);
  }

  #checkValues(field: string, values: readonly Message[]): void {
    for (const value of values) this.#ignoreOthers(`${field} ${show(oneOf(value['name']))}`, value, TOLD_OF_VALUE);
  }

  /** Replicas load a model by demand, so a number of instances on the CPU asks for nothing. */
  #checkInstances(groups: readonly Message[]): void {
    for (const group of groups) {
      if (oneOf(group['kind']) === 'KIND_GPU')
        this.ignored.push("instance_group of KIND_GPU (name executionProviders in the engine's session)");
      this.#ignoreOthers('instance_group', group, ['name', 'kind', 'count', 'gpus']);
    }
  }

  #versions(policy: Message): unknown {
    if ('all' in policy) return 'all';
    if ('specific' in policy) return listOf(messageIn(policy['specific'])['versions']).map(Number);
    const count = numberOf(messageIn(policy['latest'] ?? {})['num_versions'], 1);
    if (count > 1) this.ignored.push(`version_policy: the ${count} latest (only the latest is served)`);
    return 'latest';
  }

  #warmUps(warmUps: readonly Message[]): WarmUpInputs[] {
    const runs = warmUps.flatMap((warmUp) => {
      this.#ignoreOthers('model_warmup', warmUp, ['name', 'batch_size', 'inputs', 'count']);
      const times = Math.max(1, numberOf(warmUp['count'], 1)) || 1;
      const batch = numberOf(warmUp['batch_size'], 0);
      const inputs: Record<string, WarmUpInput> = {};
      for (const [name, value] of entriesOf(warmUp['inputs'])) {
        const input = this.#warmUp(messageIn(value), batch);
        if (input === undefined) {
          this.ignored.push(`model_warmup with input_data_file for ${show(name)}`);
          return [];
        }
        inputs[name] = input;
      }
      return Object.keys(inputs).length === 0
        ? []
        : Array.from({ length: Math.min(times, MOST_WARM_UPS) }, () => inputs);
    });
    if (runs.length > MOST_WARM_UPS) this.ignored.push(`model_warmup: more than ${MOST_WARM_UPS} runs`);
    return runs.slice(0, MOST_WARM_UPS);
  }

  /** Undefined for data from a file. Random data are zeros here. */
  #warmUp(input: Message, batch: number): WarmUpInput | undefined {
    if ('input_data_file' in input) return undefined;
    if (String(oneOf(input['random_data'])) === 'true') this.ignored.push('model_warmup: random_data (zeros are used)');
    this.#ignoreOthers('model_warmup', input, ['data_type', 'dims', 'zero_data', 'random_data']);
    const dims = listOf(input['dims']).map(Number);
    const type = TYPES[String(oneOf(input['data_type']))];
    return { dims: this.#maxBatch > 0 ? [Math.max(batch, 1), ...dims] : dims, ...(type === undefined ? {} : { type }) };
  }

  #parameters(value: unknown): Readonly<Record<string, unknown>> {
    const session: Record<string, number> = {};
    for (const [name, parameter] of entriesOf(value)) {
      const text = oneOf(messageIn(parameter)['string_value']);
      const threads = Number(text);
      if (name === 'intra_op_thread_count' && threads > 0) session['intraOpNumThreads'] = threads;
      else if (name === 'inter_op_thread_count' && threads > 0) session['interOpNumThreads'] = threads;
      // 0: as many as Triton chooses, and so it is here.
      else if (!name.endsWith('_op_thread_count')) this.ignored.push(`parameters ${show(name)}`);
    }
    return Object.keys(session).length === 0 ? {} : { session };
  }

  #checkFilename(name: unknown): void {
    if (name === undefined || name === '' || name === 'model.onnx' || name === 'model.ort') return;
    this.ignored.push(`default_model_filename ${show(name)} (the file must be named model.onnx)`);
  }

  #ignoreOthers(where: string, message: Message, known: readonly string[]): void {
    const others = Object.keys(message).filter((field) => !known.includes(field));
    if (others.length > 0) this.ignored.push(`${where}: ${others.join(', ')}`);
  }
}

/** All values of a field. The text format has lists of them, JSON has single ones, too. */
function listOf(value: unknown): readonly unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

/** The last value of a field, which counts. */
function oneOf(value: unknown): unknown {
  return listOf(value).at(-1);
}

/** The last value of a field as a number: NaN for what is none. */
function numberOf(value: unknown, byDefault: number): number {
  const own = oneOf(value) ?? byDefault;
  return typeof own === 'object' ? Number.NaN : Number(own);
}

function messagesOf(value: unknown): readonly Message[] {
  return listOf(value).map((each) => (each !== null && typeof each === 'object' ? (each as Message) : {}));
}

function messageIn(value: unknown): Message {
  return messagesOf(value).at(-1) ?? {};
}

/** Entries of a map: a message for each in the text format, one object in JSON. */
function entriesOf(value: unknown): [string, unknown][] {
  return messagesOf(value).flatMap((entry): [string, unknown][] => {
    const key = oneOf(entry['key']);
    return 'key' in entry && 'value' in entry && typeof key === 'string'
      ? [[key, entry['value']]]
      : Object.entries(entry);
  });
}
