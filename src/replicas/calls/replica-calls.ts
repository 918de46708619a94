import { InfermuxError, messageOf } from '../../common/errors.js';
import { toErrorRecord } from '../../common/values/error-record.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type {
  Answer,
  DefinedModel,
  ReplicaMessage,
  RunAnswer,
  RunMessage,
  UnloadAnswer,
  UnloadMessage,
} from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { packGroups } from '../../protocol/request-groups.js';
import { bufferPool } from '../../tensors/memory/buffer-pool.js';
import type { ReplicaHost } from '../hosts/replica-host.js';
import type { ReplicaModels } from '../replica-models.js';
import { ApartMemory } from './apart-memory.js';
import { definitionOf, type ModelDefinitions } from './model-definitions.js';
import { type ReplicaAnswer, readAnswer, unwrap } from './replica-answer.js';
import type { ReplicaDispatch } from './replica-dispatch.js';

export interface LoadSettings {
  /** Never evict the model. */
  readonly pin: boolean;
  /** Keys of models that may be evicted before others. */
  readonly spare?: readonly string[];
  /** Key of a session that counts as evicted: it is released when this model is loaded. */
  readonly replaces?: string | undefined;
  /** Whether it is unloaded again at once: nothing is evicted for its place where that can be helped. */
  readonly isTrial?: boolean;
}

export interface CallEnvironment {
  readonly host: ReplicaHost;
  readonly counters: ReplicaCounters;
  readonly models: ReplicaModels;
  readonly definitions: ModelDefinitions;
  /** The thread gave no answer, not even an error. @throws InfermuxError `REPLICA_FAILED`. */
  lost(cause: unknown): never;
  /** Resolves when the thread is gone. */
  gone(): Promise<void>;
}

/** Sends a replica's calls about models to its thread. Each call is one message and its answer. */
export class ReplicaCalls {
  readonly #environment: CallEnvironment;

  constructor(environment: CallEnvironment) {
    this.#environment = environment;
  }

  /** @throws InfermuxError the error that the thread answers with; `REPLICA_FAILED` when it gives no answer. */
  async ask<T>(message: ReplicaMessage): Promise<T> {
    let answer: Answer<T>;
    try {
      answer = (await this.#environment.host.post(message)) as Answer<T>;
    } catch (cause) {
      return this.#environment.lost(cause);
    }
    return unwrap(answer);
  }

  /**
   * Runs the requests of one dispatch. A model that the replica does not have counts as loading from now on.
   *
   * @throws InfermuxError by rejection: the thread's error for all requests; `REPLICA_FAILED` when the thread died or
   *   stopped, which says nothing about the requests.
   */
  run({ model, groups, spare, verify }: ReplicaDispatch): Promise<ReplicaAnswer> {
    const { host, counters, models, definitions, lost, gone } = this.#environment;
    const { key } = model;
    let packed: ReturnType<typeof packGroups>;
    try {
      packed = packGroups(groups);
    } catch (cause) {
      // Memory for the copy may be lacking.
      const message = `the request could not be copied: ${messageOf(cause)}`;
      return Promise.reject(new InfermuxError('INTERNAL', message, { cause }));
    }
    const message: RunMessage = {
      kind: 'run',
      model: key,
      definition: definitions.definitionFor(model),
      groups: packed.groups,
      spare: nonEmpty(spare),
      verify,
    };
    counters.dispatchGiven(groups.reduce((sum, { feeds }) => sum + feeds.length, 0));
    models.asked(key);
    const memory = packed.apart.length === 0 ? undefined : new ApartMemory(packed.apart);
    return host.post(message, packed.transfer).then(
      (posted) => {
        const answer = posted as Answer<RunAnswer>;
        memory?.release();
        if ('error' in answer) {
          memory?.restore(answer.returned);
          models.notLoaded(key);
        }
        const value = unwrap(answer);
        models.ran(key);
        if (value.buffer !== undefined) bufferPool.giveBack(value.buffer);
        return readAnswer(packed.groups, value);
      },
      (cause) => {
        // Until the thread is gone, a native call in it may read the memory.
        if (memory !== undefined) void gone().then(() => memory.release());
        return lost(cause);
      },
    );
  }

  /**
   * Loads the model unless the replica has it. It counts as loading from now on.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED`; `FAILED_PRECONDITION` when no place is left to pin it; `REPLICA_FAILED`.
   */
  async load(model: ModelReference, { pin, spare = [], replaces, isTrial = false }: LoadSettings): Promise<void> {
    const { models, definitions } = this.#environment;
    const { key } = model;
    const definition = definitions.definitionFor(model);
    models.asked(key);
    try {
      await this.ask({ kind: 'load', model: key, definition, pin, spare: nonEmpty(spare), replaces, isTrial });
    } catch (error) {
      models.notLoaded(key);
      throw error;
    }
    if (pin && models.states.has(key)) models.pinned.add(key);
  }

  /** @returns bytes of the models' files. @throws InfermuxError `REPLICA_FAILED`. */
  async unload(keys: readonly string[], reason: UnloadMessage['reason']): Promise<number> {
    const answers = keys.map((model) => this.ask<UnloadAnswer>({ kind: 'unload', model, reason }));
    return (await Promise.all(answers)).reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Answers the thread's request for the definition of a model. */
  define(wanted: number, defined: DefinedModel | InfermuxError): void {
    const { models } = this.#environment;
    if (defined instanceof InfermuxError) {
      this.ask({ kind: 'define', wanted, model: { error: toErrorRecord(defined) } }).catch(() => undefined);
      return;
    }
    const { model, batching } = defined;
    const { key } = model;
    models.told(key);
    const known = () => models.knows(key);
    const value = { model: definitionOf(model), batching };
    this.ask({ kind: 'define', wanted, model: { value } }).then(known, (cause) => {
      known();
      // It may not have got there, and the handler waits for an answer.
      this.ask({ kind: 'define', wanted, model: { error: toErrorRecord(cause) } }).catch(() => undefined);
    });
  }
}

/** Leaves an empty list out: the message is shorter without it. */
function nonEmpty(keys: readonly string[]): readonly string[] | undefined {
  return keys.length === 0 ? undefined : keys;
}
