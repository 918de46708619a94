import type { Clock } from '../../common/clock.js';
import { InfermuxError, show } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { ModelName } from '../../contracts/model-reference.js';
import type { PendingRequest, RoutedModel, RoutedRequest } from '../pending-request.js';
import { type Fingerprint, findFingerprint, fingerprintOf } from './fingerprint.js';

/** Requests in a row, with no answer in between, after whose deaths the model is to blame rather than they. */
const DEATHS_IN_A_ROW = 2;
/** Most requests of one model that are recognised; the oldest are forgotten. */
const MOST_REQUESTS = 64;
/** Most models that are remembered; the oldest are forgotten. */
const MOST_MODELS = 1_000;

/** What a request is judged by. */
type Judged = Pick<RoutedRequest, 'model' | 'feeds' | 'payload' | 'outputs'>;

export interface RunBarsObserver {
  /** A request ended two replicas, the second one alone. */
  barred(model: RoutedModel, error: InfermuxError, bar: Bar): void;
  /** The requests that wait for the model are to be refused. */
  refuse(modelKey: string, errorOf: (request: PendingRequest) => InfermuxError): void;
}

/** What is not run for a while. */
export interface Bar {
  readonly isModelBarred: boolean;
  /** Milliseconds until the request may run again, or one request of the model. */
  readonly nextTryInMs: number;
}

interface Suspect {
  readonly model: ModelName;
  readonly requests: Fingerprint[];
  /** Such requests since another one was answered. */
  deaths: number;
  /** Clock time of the last one. */
  since: number;
  /** Such requests in all. */
  total: number;
  reason: string;
  isBarred: boolean;
  /** The request that tries a barred model again. */
  trial: PendingRequest | undefined;
}

/** A model whose runs have killed replicas. */
export interface HarmfulModel {
  readonly model: string;
  /**
   * Number of requests that killed two replicas (the second one while they ran alone), or ran alone and took longer
   * than `runTimeoutMs`.
   */
  readonly requests: number;
  /** How the last replica ended. */
  readonly reason: string;
  /** Whether the whole model is blocked, not only these requests. */
  readonly isBarred: boolean;
  /** Milliseconds until one request may try a blocked model again; 0 if one may now. */
  readonly nextTryInMs: number;
}

/**
 * Bars requests that end replicas again and again, so that they cannot keep a deployment down. A request that has ended
 * two replicas is not run again for a while: 1 s at first, twice as long after each further time, up to 64 s. A model
 * of whose requests two in a row have done so, the second sent after that, with no answer in between, is barred in the
 * same way. After the while one request tries it, and the others are refused until that one is answered: a circuit
 * breaker, half open (Nygard, "Release It!", 2007).
 */
export class RunBars {
  readonly #clock: Clock;
  readonly #failures: FailureMemory;
  readonly #suspects = new Map<string, Suspect>();

  readonly #observer: RunBarsObserver;

  constructor(clock: Clock, observer: RunBarsObserver) {
    this.#clock = clock;
    this.#observer = observer;
    this.#failures = new FailureMemory(() => this.#clock.now());
  }

  /** The models whose runs have ended replicas since they were registered. */
  get harmful(): HarmfulModel[] {
    return [...this.#suspects.values()].map(({ model, total, reason, isBarred }) => ({
      ...{ model: model.id, requests: total, reason, isBarred },
      nextTryInMs: isBarred ? this.#failures.msLeft(model.key) : 0,
    }));
  }

  /** Why the request is not run now; undefined when it may be. */
  refusalOf(request: Judged): InfermuxError | undefined {
    if (this.#suspects.size === 0) return undefined;
    const suspect = this.#suspects.get(request.model.key);
    if (suspect === undefined) return undefined;
    const { model, requests, isBarred, trial } = suspect;
    const barred = requests.filter((print) => this.#failures.msLeft(requestKey(model.key, print)) > 0);
    const known = barred.length === 0 ? undefined : findFingerprint(barred, request);
    const ofRequest = known && this.#failures.recall(requestKey(model.key, known));
    if (ofRequest !== undefined || !isBarred) return ofRequest;
    const ofModel = this.#failures.recall(model.key);
    if (ofModel !== undefined) return ofModel;
    return isPending(trial) ? onTrial(suspect) : undefined;
  }

  /** The request is accepted. A barred model is tried by it. */
  accepted(request: PendingRequest): void {
    if (this.#suspects.size === 0) return;
    const suspect = this.#suspects.get(request.model.key);
    if (suspect?.isBarred === true && !isPending(suspect.trial)) suspect.trial = request;
  }

  /** The request ended two replicas, the second one alone; or it ran alone, and took too long. */
  convict(request: PendingRequest, error: InfermuxError): void {
    const { model } = request;
    const suspect = this.#suspectOf(model);
    // Others were under way already: while replicas start again, they may come to their end before any good request.
    const isNext = request.acceptedAt >= suspect.since;
    if (isNext) suspect.deaths += 1;
    suspect.since = this.#clock.now();
    suspect.total += 1;
    suspect.reason = error.message;
    suspect.trial = undefined;
    const ofRequestMs = this.#barRequest(suspect, fingerprintOf(request), error);
    const wasBarred = suspect.isBarred;
    suspect.isBarred ||= suspect.deaths >= DEATHS_IN_A_ROW;
    const reason = barError(`model ${show(model.id)} is blocked for a while`, error);
    if (suspect.isBarred && (isNext || !wasBarred)) this.#failures.record(model.key, reason);
    const { isBarred } = suspect;
    const nextTryInMs = isBarred ? this.#failures.msLeft(model.key) : ofRequestMs;
    this.#observer.barred(model, error, { isModelBarred: isBarred, nextTryInMs });
    if (isBarred) this.#observer.refuse(model.key, (waiting) => this.refusalOf(waiting) ?? reason);
  }

  /** A request for the model was answered. */
  answered(modelKey: string): void {
    if (this.#suspects.size === 0) return;
    const suspect = this.#suspects.get(modelKey);
    if (suspect === undefined || suspect.deaths === 0) return;
    suspect.deaths = 0;
    suspect.isBarred = false;
    this.#failures.forget(modelKey);
  }

  forget(modelKey: string): void {
    if (!this.#suspects.delete(modelKey)) return;
    this.#failures.forget(modelKey);
    this.#failures.forgetThose((key) => key.startsWith(`${modelKey} `));
  }

  #suspectOf({ key, id }: ModelName): Suspect {
    const known = this.#suspects.get(key);
    if (known !== undefined) return known;
    const suspect: Suspect = {
      ...{
        model: { key, id },
        requests: [],
        deaths: 0,
        since: Number.NEGATIVE_INFINITY,
        total: 0,
        reason: '',
        isBarred: false,
        trial: undefined,
      },
    };
    this.#suspects.set(key, suspect);
    const [oldest] = this.#suspects.keys();
    if (this.#suspects.size > MOST_MODELS && oldest !== undefined) this.forget(oldest);
    return suspect;
  }

  /** @returns for how many milliseconds; 0 when the request cannot be recognised. */
  #barRequest({ model, requests }: Suspect, print: Fingerprint | undefined, error: InfermuxError): number {
    if (print === undefined) return 0;
    if (!requests.some(({ whole }) => whole === print.whole)) requests.push(print);
    if (requests.length > MOST_REQUESTS) this.#failures.forget(requestKey(model.key, requests.shift() as Fingerprint));
    const reason = barError('the same request is not run again for a while', error);
    return this.#failures.record(requestKey(model.key, print), reason);
  }
}

function requestKey(modelKey: string, { whole }: Fingerprint): string {
  return `${modelKey} ${whole}`;
}

function isPending(request: PendingRequest | undefined): boolean {
  return request?.position !== undefined;
}

function onTrial({ model, reason }: Suspect): InfermuxError {
  const message = `model ${show(model.id)} was blocked, and one request tries it now: ${reason}`;
  return new InfermuxError('REPLICA_FAILED', message);
}

function barError(what: string, error: InfermuxError): InfermuxError {
  return new InfermuxError('REPLICA_FAILED', `${what}, since its runs end replicas: ${error.message}`, {
    cause: error,
  });
}
