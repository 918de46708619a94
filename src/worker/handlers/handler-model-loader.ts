import { isObject } from '../../common/checks.js';
import { settlesWithin, systemClock, unlimited } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { type Handler, type HandlerTimeouts, isHandlerKey } from '../../contracts/handler.js';
import type { ModelReference } from '../../contracts/model-reference.js';
import type { Outputs } from '../../tensors/tensor.js';
import type { Session, SessionLoader } from '../sessions/session.js';

/** Loads the handler's own models with its `loadModel`, and the engine's models with another loader. */
export class HandlerModelLoader implements SessionLoader {
  readonly #handler: Handler;
  readonly #others: SessionLoader;
  readonly #timeouts: HandlerTimeouts;
  readonly #late: (key: string, disposed: Promise<void>) => void;

  /** @param late is told that a load which was given up goes on; the promise ends with the disposal of what it loads. @param timeouts a slower load or disposal is given up: other models wait for the place. */
  constructor(
    handler: Handler,
    others: SessionLoader,
    timeouts: HandlerTimeouts,
    late: (key: string, disposed: Promise<void>) => void,
  ) {
    this.#late = late;
    this.#handler = handler;
    this.#others = others;
    this.#timeouts = timeouts;
  }

  mayLoadBeside(model: ModelReference): boolean {
    return this.#others.mayLoadBeside(model);
  }

  async check(model: ModelReference): Promise<void> {
    if (!isHandlerKey(model.key)) await this.#others.check(model);
  }

  /** @throws InfermuxError `MODEL_LOAD_FAILED` with what the handler threw. */
  async load(model: ModelReference): Promise<Session> {
    if (!isHandlerKey(model.key)) return this.#others.load(model);
    try {
      const { loadModelMs, disposeMs } = this.#timeouts;
      const loaded = (async () => new OwnModel(await this.#handler.loadModel?.(model.id), disposeMs))();
      if (await settlesWithin(systemClock, loaded, unlimited(loadModelMs))) return await loaded;
      // What comes too late is nobody's.
      const disposed = loaded.then(
        (late) => late.release(),
        // That it failed later is of no interest any more.
        () => undefined,
      );
      this.#late(model.key, disposed);
      throw new Error(`not within ${loadModelMs} ms`);
    } catch (cause) {
      const message = `the handler could not load model ${show(model.id)}: ${messageOf(cause)}`;
      throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause });
    }
  }

  async loadShared(model: ModelReference): Promise<Session | undefined> {
    return isHandlerKey(model.key) ? undefined : this.#others.loadShared(model);
  }
}

/** The value that a handler's `loadModel` returned, in the place of a session. Its release disposes of the value. */
export class OwnModel implements Session {
  readonly metadata = { inputs: [], outputs: [], omittedOutputs: [] };
  readonly value: unknown;
  readonly bytes: number;
  readonly #disposeMs: number;

  /** @param loaded the value, or `{ model, bytes }`: the value with the bytes that it takes. */
  constructor(loaded: unknown, disposeMs: number) {
    this.#disposeMs = disposeMs;
    const { model, bytes } = isSized(loaded) ? loaded : { model: loaded, bytes: 0 };
    this.value = model;
    this.bytes = bytes;
  }

  async run(): Promise<Outputs> {
    throw new InfermuxError('INTERNAL', 'a model of the handler was run as one of the engine');
  }

  async release(): Promise<void> {
    if (await settlesWithin(systemClock, this.#dispose(), unlimited(this.#disposeMs))) return;
    throw new Error(`it was not disposed of within ${this.#disposeMs} ms`);
  }

  async #dispose(): Promise<void> {
    const model = this.value as Partial<Record<PropertyKey, unknown>> | null | undefined;
    const name = [Symbol.asyncDispose, Symbol.dispose, 'dispose'].find((key) => typeof model?.[key] === 'function');
    if (model && name !== undefined) await (model[name] as () => unknown)();
  }
}

/** Whether `loadModel` has said how many bytes the model takes. */
function isSized(loaded: unknown): loaded is { readonly model: unknown; readonly bytes: number } {
  if (isObject(loaded) !== undefined) return false;
  const { bytes } = loaded as { readonly bytes?: unknown };
  return (
    Object.keys(loaded as object)
      .sort()
      .join() === 'bytes,model' &&
    Number.isSafeInteger(bytes) &&
    (bytes as number) >= 0
  );
}
