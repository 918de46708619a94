import { InfermuxError, messageOf } from '../../common/errors.js';
import { clone } from '../../common/values/clone.js';
import { toErrorRecord } from '../../common/values/error-record.js';
import { freeBuffers } from '../../common/values/free-buffers.js';
import { isHandlerKey } from '../../contracts/handler.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import { packCalls } from '../../protocol/call-answers.js';
import type { ReplicaEvent } from '../../protocol/events.js';
import type {
  DefineMessage,
  ExpireAnswer,
  HelloAnswer,
  LoadMessage,
  ReplicaMessage,
  RunAnswer,
  RunMessage,
  UnloadAnswer,
  UnloadMessage,
  WorkerSettings,
} from '../../protocol/messages.js';
import { arraysIn, buffersOf, bufferToReturn, givenIn } from '../../protocol/packing.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';
import { requestsIn } from '../../protocol/request-groups.js';
import type { HandlerHost } from '../handlers/handler-host.js';
import { ModelLookup } from '../handlers/model-lookup.js';
import { EngineRuns } from '../handlers/requests/engine-runs.js';
import type { Copy } from '../handlers/requests/item-stream.js';
import { nativeCall } from '../native-call.js';
import type { Runtime } from '../runtime.js';
import type { Reply } from './message-loop.js';

/** What becomes of memory between the replica and the calling thread. */
export interface MemoryRules {
  /** Whether memory goes back with an answer: a thread has it from the calling thread. */
  readonly handsBack: boolean;
  /** Copies what a handler answers with. */
  readonly copy: Copy;
  /** Takes the buffers of tensors that nobody reads any more. */
  readonly release: (buffers: readonly ArrayBuffer[]) => void;
}

const OF_THREADS: MemoryRules = { handsBack: true, copy: clone, release: freeBuffers };

/**
 * Answers the messages of a replica's thread. The first one, `hello`, imports onnxruntime-node, so that its answer can
 * say what went wrong.
 */
export class MessageHandler {
  readonly #settings: WorkerSettings;
  readonly #counters: ReplicaCounters;
  readonly #post: (event: ReplicaEvent) => void;
  readonly #memory: MemoryRules;
  /** Models by key, as messages have defined them. */
  readonly #definitions = new Map<string, ModelReference>();
  /** Models that a handler has asked for. */
  readonly #lookup: ModelLookup;
  /** What a handler runs in the engine. */
  readonly #engineRuns: EngineRuns;
  #runtime: Runtime | undefined;

  constructor(
    settings: WorkerSettings,
    counters: ReplicaCounters,
    post: (event: ReplicaEvent) => void,
    memory: MemoryRules = OF_THREADS,
  ) {
    this.#memory = memory;
    this.#settings = settings;
    this.#counters = counters;
    this.#post = post;
    this.#engineRuns = new EngineRuns(post);
    this.#lookup = new ModelLookup(counters, (wanted, target) => post({ kind: 'model-wanted', wanted, target }));
  }

  /** Never rejects: errors are answers too. */
  handle(message: ReplicaMessage): Promise<Reply> {
    switch (message.kind) {
      case 'run':
        return this.#run(message);
      case 'load':
        return replyOf(() => this.#load(message));
      case 'unload':
        return replyOf(() => this.#unload(message));
      case 'share':
        return replyOf(() => this.#started.models.shareWeights(message.model));
      case 'hello':
        return replyOf(() => this.#start());
      case 'expire':
        return replyOf(async (): Promise<ExpireAnswer> => ({ nextInMs: await this.#started.models.expire() }));
      case 'release':
        return replyOf(() => this.#release());
      case 'reconfigure':
        return replyOf(() => this.#handler.reconfigure(message.userConfig));
      case 'health':
        return replyOf(async () => this.#started.handler?.checkHealth());
      case 'ping':
        return replyOf(async () => undefined);
      case 'routing-stats':
        return replyOf(() => this.#handler.routingStats());
      case 'define':
        return replyOf(() => this.#define(message));
      case 'cancel':
        return replyOf(async () => this.#runtime?.handler?.ongoing.cancel(message.ticket));
      case 'pull':
        return replyOf(async () => this.#runtime?.handler?.ongoing.pulled(message.ticket, message.items));
      case 'engine-answer':
        return replyOf(async () => this.#engineRuns.answered(message));
    }
  }

  /** Resolves when the work that goes on after all answers is done; undefined when there is none. Never rejects. */
  unfinished(): Promise<unknown> | undefined {
    return this.#runtime?.models.unfinished() ?? this.#runtime?.handler?.unfinished();
  }

  async #run(message: RunMessage): Promise<Reply> {
    const requests = requestsIn(message);
    let failed = requests;
    let reply: Reply;
    try {
      const { groups, spare, verify } = message;
      const model = this.#modelOf(message);
      const [first] = groups;
      if (first?.values !== undefined) {
        const calls = await this.#handler.run(model, first.values);
        failed = calls.flatMap(({ results = [] }) => results).filter((result) => 'error' in result).length;
        const value: RunAnswer = { loadMs: 0, calls: [calls], verification: undefined, buffer: undefined };
        return { answer: { value } };
      }
      const { loadMs, calls, verification } = await this.#started.executor.run({ model, groups, spare, verify });
      const { handsBack, release } = this.#memory;
      release(buffersOf(handsBack ? givenIn(message.groups) : arraysIn(message.groups)));
      const packed = packCalls(calls);
      const buffer = handsBack ? bufferToReturn(message.groups) : undefined;
      const value: RunAnswer = { loadMs, calls: packed.calls, verification, buffer };
      reply = { answer: { value }, transfer: buffer === undefined ? packed.transfer : [...packed.transfer, buffer] };
      failed = 0;
      for (const group of calls) for (const call of group) if (call.error !== undefined) failed += call.requests;
    } catch (error) {
      const returned = this.#memory.handsBack ? givenIn(message.groups) : [];
      reply = { answer: { error: toErrorRecord(error), returned }, transfer: buffersOf(returned) };
    } finally {
      // Before the answer is posted, so that the router sees the free slot as early as possible.
      this.#counters.dispatchDone(requests - failed, failed);
    }
    return reply;
  }

  /** Answered when the load that it leads to has ended, so that the calling thread knows what came of it. */
  async #define(message: DefineMessage): Promise<void> {
    this.#lookup.defined(message);
    // The handler, which waited for the model, goes on first.
    await new Promise(setImmediate);
    await this.#runtime?.models.unfinished();
  }

  async #release(): Promise<void> {
    const { handler, models } = this.#runtime ?? {};
    if (this.#counters.isStopping) {
      handler?.ongoing.cancelAll();
      // A handler that minds its signal is done by then. Another one is not waited for: its models end with the thread.
      await new Promise(setImmediate);
      if (handler?.ongoing.isIdle === false || handler?.unfinished() !== undefined) return;
    }
    // The handler's requests end first: until then they lease and load sessions.
    await handler?.ongoing.untilIdle();
    await handler?.unfinished();
    await models?.releaseAll();
  }

  #load(message: LoadMessage): Promise<void> {
    const { pin, spare, replaces, isTrial } = message;
    const { models } = this.#started;
    const model = this.#modelOf(message);
    return isTrial ? models.tryOut(model) : models.load(model, { pin, spare, replaces });
  }

  async #unload({ model, reason }: UnloadMessage): Promise<UnloadAnswer> {
    // Before the first await: a later message may define the model again.
    this.#definitions.delete(model);
    return { bytes: await this.#started.models.unload(model, reason) };
  }

  #modelOf({ model: key, definition }: RunMessage | LoadMessage): ModelReference {
    if (definition !== undefined && isHandlerKey(key)) return definition;
    if (definition !== undefined) this.#definitions.set(key, definition);
    const model = this.#definitions.get(key);
    if (model === undefined) throw new InfermuxError('INTERNAL', `no message has defined model ${key} for the replica`);
    return model;
  }

  async #start(): Promise<HelloAnswer> {
    // Loading the native library counts as a native call: the thread must not be ended in it.
    const { startRuntime } = await nativeCall(this.#counters, importRuntime);
    this.#runtime = await startRuntime(this.#settings, {
      counters: this.#counters,
      post: this.#post,
      resolve: (target) => this.#lookup.resolve(target),
      engineRuns: this.#engineRuns,
      copy: this.#memory.copy,
    });
    return this.#runtime.hello;
  }

  get #handler(): HandlerHost {
    const { handler } = this.#started;
    if (handler === undefined) throw new InfermuxError('INTERNAL', 'the replica has no handler');
    return handler;
  }

  get #started(): Runtime {
    if (this.#runtime === undefined) throw new InfermuxError('INTERNAL', 'the replica got work before its hello');
    return this.#runtime;
  }
}

async function replyOf(work: () => Promise<unknown>): Promise<Reply> {
  try {
    return { answer: { value: await work() } };
  } catch (error) {
    return { answer: { error: toErrorRecord(error) } };
  }
}

async function importRuntime() {
  try {
    return await import('../runtime.js');
  } catch (cause) {
    const message = `onnxruntime-node could not be loaded; is it installed beside infermux? ${messageOf(cause)}`;
    throw new InfermuxError('REPLICA_FAILED', message, { cause, retryable: false });
  }
}
