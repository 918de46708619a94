import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { fromErrorRecord, toErrorRecord } from '../../common/values/error-record.js';
import type { ResolvedProcesses } from '../../contracts/isolation.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { ReplicaEvent } from '../../protocol/events.js';
import { SharedBytes } from '../../protocol/frames/array-kinds.js';
import type { Counts } from '../../protocol/frames/frame-format.js';
import { writeCounts, writeFrame } from '../../protocol/frames/frame-writer.js';
import type {
  Answer,
  FromThread,
  ReplicaMessage,
  ReplicaRuntimeSettings,
  RunAnswer,
  RunMessage,
  ToThread,
} from '../../protocol/messages.js';
import { bufferToReturn } from '../../protocol/packing.js';
import type { DyingMessage, ProcessSettings } from '../../protocol/process-messages.js';
import type { QueueCounters, ReplicaCounters } from '../../protocol/queue-counters.js';
import { requestsIn } from '../../protocol/request-groups.js';
import type { ReplicaHost } from '../hosts/replica-host.js';
import { UnansweredMessages } from '../hosts/unanswered-messages.js';
import { MemoryWatch } from './memory-watch.js';
import type { ReplicaProcess } from './replica-process.js';
import { RunTimer } from './run-timer.js';

export interface WorkerProcessOptions {
  readonly settings: ReplicaRuntimeSettings;
  readonly limits: Pick<ResolvedProcesses, 'memoryLimitBytes' | 'runTimeoutMs'>;
  readonly clock: Clock;
  /** Returns a process that waits for its settings. */
  process(): ReplicaProcess;
}

const MB = 1e6;

/**
 * A replica's process: messages to it and their answers, as frames over sockets. It can be killed at any time, and is
 * when a run takes too long, or its memory too much.
 *
 * The replica's line of the counters is written here alone. What the process counts comes with its frames, and what it
 * must know of the counters goes with those to it.
 */
export class WorkerProcess implements ReplicaHost {
  readonly kind = 'process';
  /** Beside what timers are late: a message of a hundred kilobytes takes so long when all cores are busy. */
  readonly leadMs = 4;
  readonly #options: WorkerProcessOptions;
  readonly #all: QueueCounters;
  readonly #counters: ReplicaCounters;
  readonly #unanswered = new UnansweredMessages();
  readonly #runs: RunTimer;
  #memory: MemoryWatch | undefined;
  #process: ReplicaProcess | undefined;
  #reportEnd: (end: Promise<Error | undefined>) => void = () => undefined;
  readonly ended: Promise<Error | undefined>;
  #onEvent: (event: ReplicaEvent) => void = () => undefined;
  /** Definitions of models that messages had which could not be sent, by key. */
  readonly #undelivered = new Map<string, ModelReference>();
  #isTerminated = false;
  /** Frames that came, and how many had come when the process was last asked for a sign of life. */
  #heard = 0;
  #heardAtPing = -1;
  #failed = 0;

  /** @param counters the replica's line of `all`. */
  constructor(options: WorkerProcessOptions, all: QueueCounters, counters: ReplicaCounters) {
    this.#options = options;
    this.#all = all;
    this.#counters = counters;
    this.ended = new Promise((resolve) => {
      this.#reportEnd = resolve;
    });
    this.#runs = new RunTimer(options.clock, options.limits.runTimeoutMs, () => this.#overrun());
  }

  /** Undefined before it starts. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  onEvent(listener: (event: ReplicaEvent) => void): void {
    this.#onEvent = listener;
  }

  post(message: ReplicaMessage): Promise<unknown> {
    if (!this.#isTerminated) this.#process ??= this.#start();
    if (this.#process === undefined || this.#process.hasEnded)
      return Promise.reject(this.#process?.cause ?? new Error('the process is gone'));
    const id = this.#unanswered.nextId();
    const whole = this.#withDefinition(message);
    let sent: number;
    try {
      sent = this.#process.send(writeFrame({ id, message: withContents(whole) } satisfies ToThread, this.#counts));
    } catch (cause) {
      return Promise.resolve(this.#refusal(whole, cause));
    }
    const answer = this.#unanswered.add(id, message, sent);
    this.#runs.watch(this.#unanswered.oldestRun);
    return answer;
  }

  rejectAll(error: unknown): void {
    this.#unanswered.rejectAll(error);
    this.#runs.stop();
  }

  terminate(): void {
    this.#isTerminated = true;
    this.#runs.stop();
    if (this.#process === undefined) this.#reportEnd(Promise.resolve(undefined));
    else this.#process.kill();
  }

  /** It was killed, and need not be waited for. */
  get isAlive(): boolean {
    return false;
  }

  get unanswered(): ReplicaMessage | undefined {
    return this.#unanswered.oldest;
  }

  get #counts(): Counts {
    return [this.#counters.stopLevel, this.#all.catalogRevision, this.#counters.othersAtWork];
  }

  #start(): ReplicaProcess {
    const { settings, limits, clock } = this.#options;
    const child = this.#options.process();
    child.observe({ received: (message, counts) => this.#receive(message as FromThread | DyingMessage, counts) });
    child.send(writeFrame({ settings } satisfies ProcessSettings, this.#counts));
    const tell = () => child.send(writeCounts(this.#counts));
    this.#counters.onStop(tell);
    const unlisten = this.#all.onCatalogChanged(tell);
    if (limits.memoryLimitBytes !== undefined && child.pid !== undefined)
      this.#memory = new MemoryWatch(clock, child.pid, limits.memoryLimitBytes, (bytes) => this.#overfull(bytes));
    const ended = child.ended.then((cause) => {
      unlisten();
      this.#memory?.stop();
      this.#runs.stop();
      return cause;
    });
    this.#reportEnd(ended);
    return child;
  }

  #receive(message: FromThread | DyingMessage | undefined, [failed, bytes]: Counts): void {
    this.#heard += 1;
    this.#counters.setBytes(Math.max(0, bytes) || 0);
    if (message === undefined) return;
    if ('dying' in message) this.#process?.mayDieOf(fromErrorRecord(message.dying));
    else if ('event' in message) this.#event(message.event);
    else this.#answered(message.id, message.answer, failed);
  }

  /** @throws Error for an answer to what the process cannot have read: the memory of the request is used again. */
  #answered(id: number, answer: Answer<unknown>, failed: number): void {
    const asked = this.#unanswered.find(id);
    if (asked !== undefined && this.#process?.hasLeft(asked.sent) !== true)
      throw new Error('it answered a request before it had it');
    if (asked?.message.kind === 'run') {
      this.#done(requestsIn(asked.message), failed);
      this.#unanswered.answered(id, withBuffer(asked.message, answer));
    } else {
      this.#unanswered.answered(id, answer);
    }
    this.#runs.watch(this.#unanswered.oldestRun);
  }

  /** @param failed requests that have failed since the process began, as it says. */
  #done(requests: number, failed: number): void {
    const failedNow = Math.max(0, Math.min(requests, failed - this.#failed)) || 0;
    this.#failed += failedNow;
    this.#counters.dispatchDone(requests - failedNow, failedNow);
  }

  #event(event: ReplicaEvent): void {
    if (event.kind === 'model-loading') this.#runs.loadBegan();
    else if (event.kind === 'model-loaded' || event.kind === 'model-load-failed') this.#runs.loadEnded();
    this.#onEvent(event);
  }

  /** A message that could not be sent may have had the definition of its model: then the next one has it. */
  #withDefinition(message: ReplicaMessage): ReplicaMessage {
    if (this.#undelivered.size === 0 || !('model' in message) || typeof message.model !== 'string') return message;
    const definition = this.#undelivered.get(message.model);
    this.#undelivered.delete(message.model);
    const isNeeded = definition !== undefined && (message.kind === 'run' || message.kind === 'load');
    return isNeeded ? { ...message, definition: message.definition ?? definition } : message;
  }

  /** The message cannot be sent: that is its answer, and the replica goes on. */
  #refusal(message: ReplicaMessage, cause: unknown): Answer<never> {
    const text = `the request cannot be sent to the replica's process: ${messageOf(cause)}`;
    if (message.kind === 'run') this.#counters.dispatchDone(0, requestsIn(message));
    if ((message.kind === 'run' || message.kind === 'load') && message.definition !== undefined)
      this.#undelivered.set(message.model, message.definition);
    return { error: toErrorRecord(new InfermuxError('INVALID_ARGUMENT', text, { cause })) };
  }

  /** The time of the oldest run is over. */
  #overrun(): void {
    const run = this.#unanswered.oldestRun;
    if (run === undefined) return;
    if (this.#options.settings.handler === undefined) {
      this.#killUnless(run, () => this.#unanswered.oldestRun !== run);
      return;
    }
    // A handler may have several requests, each of which may wait for something. What counts is whether the process gives
    // a sign of life: it is asked for one, and has as much time again.
    const heard = this.#heard;
    if (this.#heardAtPing === heard) {
      this.#killUnless(run, () => this.#heard !== heard);
      return;
    }
    this.#heardAtPing = heard;
    this.#runs.restart();
    this.post({ kind: 'ping' }).catch(() => undefined);
  }

  /** What would spare it may have come while this thread was busy: it is killed when nothing is left to read. */
  #killUnless(run: number, isSpared: () => boolean, read = -1): void {
    this.#options.clock.nextTurn(() => {
      if (isSpared()) {
        this.#runs.restart();
        return;
      }
      const bytes = this.#process?.bytesRead ?? 0;
      if (bytes === read) this.#killRun(run);
      else this.#killUnless(run, isSpared, bytes);
    });
  }

  #killRun(run: number): void {
    const { runTimeoutMs } = this.#options.limits;
    const text = `the run took longer than runTimeoutMs: ${runTimeoutMs} allows, and its process was killed`;
    const error = new InfermuxError('DEADLINE_EXCEEDED', text);
    // Of several requests of a handler nobody knows which one it is: each runs once more, alone.
    const isKnown = this.#options.settings.handler === undefined || this.#unanswered.runs === 1;
    this.#process?.kill(isKnown ? error : new Error(text));
    if (isKnown) this.#unanswered.reject(run, error);
  }

  #overfull(bytes: number): void {
    const limit = this.#options.limits.memoryLimitBytes ?? 0;
    const used = `${Math.ceil(bytes / MB)} MB of memory, and memoryLimitBytes allows ${Math.floor(limit / MB)} MB`;
    this.#process?.kill(new Error(`its process used ${used}, so it was killed`));
  }
}

/** A thread hands back the buffer that it was sent. Here it was never away. */
function withBuffer({ groups }: RunMessage, answer: Answer<unknown>): Answer<unknown> {
  if (!('value' in answer)) return answer;
  const buffer = bufferToReturn(groups);
  const value = answer.value as RunAnswer;
  return value?.buffer === buffer ? answer : { value: { ...value, buffer } };
}

/** A model in memory goes along as bytes, and is memory of the process's threads there. */
function withContents(message: ReplicaMessage): ReplicaMessage {
  if (message.kind === 'run' || message.kind === 'load') {
    const { definition } = message;
    return definition?.contents === undefined ? message : { ...message, definition: carried(definition) };
  }
  if (message.kind !== 'define' || 'error' in message.model) return message;
  const { value } = message.model;
  return { ...message, model: { value: { ...value, model: carried(value.model) } } };
}

function carried(model: ModelReference): ModelReference {
  const { contents } = model;
  if (contents === undefined) return model;
  return { ...model, contents: new SharedBytes(contents) as unknown as SharedArrayBuffer };
}
