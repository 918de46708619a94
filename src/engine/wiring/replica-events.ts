import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import { fromErrorRecord } from '../../common/values/error-record.js';
import { isHandlerKey, NO_MODEL, nameOfOwn } from '../../contracts/handler.js';
import { isWideKey, type ModelName } from '../../contracts/model-reference.js';
import type { ManagedModels } from '../../models/managed-models.js';
import type { ModelCatalog } from '../../models/model-catalog.js';
import type { EventHub } from '../../observability/engine-events.js';
import type { EngineMetrics } from '../../observability/engine-metrics.js';
import type { Log } from '../../observability/log.js';
import { LoadTraces } from '../../observability/traces/load-traces.js';
import type { ReplicaEvent } from '../../protocol/events.js';
import type { Replica } from '../../replicas/replica.js';
import type { WeightSharing } from '../../replicas/sharing/weight-sharing.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import type { OmittedOutput } from '../../tensors/tensor.js';
import type { NestedRequests } from '../requests/nested-requests.js';

/** A load that takes longer is logged as a warning. */
const SLOW_LOAD_MS = 1_000;

export interface ReplicaEventsEnvironment {
  readonly catalog: ModelCatalog;
  readonly managed: ManagedModels;
  readonly sharing: WeightSharing;
  readonly metrics: EngineMetrics;
  readonly log: Log;
  readonly events: EventHub;
  readonly nestedRequests: NestedRequests;
}

/** Passes on the events of replicas to the dispatcher, the model manager, the metrics and the log. */
export class ReplicaEvents {
  readonly #environment: ReplicaEventsEnvironment;
  readonly #traces = new LoadTraces();

  constructor(environment: ReplicaEventsEnvironment) {
    this.#environment = environment;
  }

  /** @param dispatcher of the replica's deployment. */
  handle(dispatcher: Dispatcher<Replica>, replica: Replica, event: ReplicaEvent): void {
    const { catalog, managed, sharing, metrics, log, events } = this.#environment;
    const { id } = replica;
    if (event.kind === 'log') {
      log.write(event.level, { replica: id, ...event.fields }, event.message);
      return;
    }
    if (event.kind === 'model-wanted') {
      void this.#define(dispatcher, replica, event.wanted, event.target);
      return;
    }
    if (event.kind === 'engine-run') {
      this.#environment.nestedRequests.run(dispatcher, replica, event);
      return;
    }
    if (event.kind === 'engine-cancel') {
      replica.handler.nested.cancel(event.run);
      return;
    }
    // Items go to the caller, and do not come here.
    if (event.kind === 'items') return;
    const registered = catalog.byKey(event.key);
    if (event.kind === 'model-ran') {
      if (registered !== undefined) dispatcher.handled.ran(replica, registered, event);
      return;
    }
    // A handler's own models are counted together: there may be any number of them.
    const { id: label, format: type } = registered ?? { id: NO_MODEL, format: 'handler' };
    const model = registered?.id ?? event.key;
    const isWide = isWideKey(event.key);
    const session = isWide ? { model, wide: true } : { model };
    const place = { model: nameOfOwn(model), version: registered?.version, replica: id };
    switch (event.kind) {
      case 'model-loading':
        log.write('debug', { replica: id, ...session }, 'model is loading');
        this.#traces.begin(replica, event.key, () => ({ ...place, isWide }));
        break;
      case 'model-loaded': {
        const { loadMs, nextLoadMs, bytes, memoryBytes, weights, metadata } = event;
        const isFirst = catalog.metadata(event.key) === undefined;
        catalog.setMetadata(event.key, metadata);
        // A wide session serves beside others, so it says nothing new of the model.
        if (registered !== undefined && !isWide) {
          if (isFirst) this.#warnOfOmitted(model, metadata.omittedOutputs);
          dispatcher.modelLoaded(replica, registered, nextLoadMs, metadata);
          managed.reports.loaded(id, registered, memoryBytes, weights);
        } else if (registered === undefined && !isHandlerKey(event.key)) {
          // A handler asked for the model, and the model was removed before it was loaded.
          void replica.unload(event.key, 'unloaded').catch(() => undefined);
        }
        if (registered !== undefined) sharing.loaded(replica, registered, { weights, loadMs });
        if (registered?.isFound === true) managed.search.loaded(registered);
        metrics.sessions.loaded(id, label, type, loadMs);
        log.write('info', { replica: id, ...session, loadMs, bytes, memoryBytes, weights }, 'model loaded');
        events.emit('modelLoaded', () => ({ ...place, loadMs, bytes }));
        this.#traces.finish(replica, event.key, { loadMs, bytes });
        if (loadMs > SLOW_LOAD_MS) log.write('warn', { replica: id, model, loadMs }, 'slow model load');
        break;
      }
      case 'model-shares':
        if (registered !== undefined) managed.reports.shares(registered);
        log.write('info', { replica: id, ...session, loadMs: event.loadMs }, 'the session now shares its weights');
        break;
      case 'model-load-failed':
        this.#loadFailed(replica, event.key, fromErrorRecord(event.error), event.nextTryInMs);
        break;
      case 'release-failed': {
        const { message: reason } = fromErrorRecord(event.error);
        metrics.sessions.releaseFailed(id);
        log.write('warn', { replica: id, ...session, reason }, 'session could not be released; its memory may stay');
        events.emit('modelReleaseFailed', () => ({ ...place, reason }));
        break;
      }
      case 'model-unloaded':
        metrics.sessions.unloaded(id, event.reason, event.unloadMs, event.idleMs);
        log.write('info', { replica: id, ...session, reason: event.reason }, 'model unloaded');
        events.emit('modelUnloaded', () => ({ ...place, reason: event.reason }));
        break;
    }
  }

  /** The replica died or was given up while it loaded the model. */
  loadLost({ loads }: Dispatcher<Replica>, replica: Replica, { key }: ModelName): void {
    const refusal = loads.loadRefusal(key);
    if (refusal !== undefined) this.#loadFailed(replica, key, refusal, refusal.retryAfterMs ?? 0);
  }

  #loadFailed(replica: Replica, key: string, error: InfermuxError, nextTryInMs: number): void {
    const { catalog, managed, metrics, log, events } = this.#environment;
    const { id } = replica;
    this.#traces.finish(replica, key, { error });
    const registered = catalog.byKey(key);
    if (registered !== undefined && !isWideKey(key)) managed.modelLoadFailed(id, key, error, nextTryInMs);
    metrics.sessions.loadFailed(id, registered?.format ?? 'handler', error.code);
    const model = registered?.id ?? key;
    log.write('warn', { replica: id, model, reason: error.message, nextTryInMs }, 'model load failed');
    const place = { model: nameOfOwn(model), version: registered?.version, replica: id };
    const { code, message: reason } = error;
    events.emit('modelLoadFailed', () => ({ ...place, code, reason, nextTryInMs }));
  }

  #warnOfOmitted(model: string, omitted: readonly OmittedOutput[]): void {
    if (omitted.length === 0) return;
    const outputs = omitted.map(({ name, reason }) => `${name}: ${reason}`);
    this.#environment.log.write('warn', { model, outputs }, 'outputs are left out of all answers');
  }

  /** Tells a handler of the model that it asked for; it then loads the model. */
  async #define(dispatcher: Dispatcher<Replica>, replica: Replica, wanted: number, target: string): Promise<void> {
    const { managed } = this.#environment;
    try {
      const model = await managed.resolve(target);
      managed.checkMayRun(model);
      const batching = dispatcher.handled.batchingOf(model);
      await dispatcher.loads.inTurn(model, replica, async () => replica.define(wanted, { model, batching }));
    } catch (cause) {
      replica.define(wanted, toInfermuxError(cause));
    }
  }
}
