// A program that realm-child.mjs runs in a vm context.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { createEngine, InfermuxError } from '../../dist/index.js';

/** A signal as jsdom has it, of no class of Node's. */
class BrowserSignal {
  aborted = false;
  reason;
  #listeners = new Set();

  addEventListener(_, listener) {
    this.#listeners.add(listener);
  }

  removeEventListener(_, listener) {
    this.#listeners.delete(listener);
  }

  abort(reason) {
    Object.assign(this, { aborted: true, reason });
    for (const listener of this.#listeners) listener();
  }

  get listeners() {
    return this.#listeners.size;
  }
}

const feeds = () => ({ x: { dims: [1, 4], data: Float32Array.of(5, 0, 0, 0) } });

const outcome = (call) =>
  call.then(
    (answer) => (typeof answer === 'object' && 'y' in answer ? answer.y.data[0] : answer),
    (error) => `${error instanceof InfermuxError} ${error.code}: ${error.message}`,
  );

/**
 * @param models a directory with the model `times-2`.
 * @param handler path of a handler.
 * @param scratch an empty directory.
 */
export async function run(models, handler, scratch) {
  const model = pathToFileURL(join(models, 'times-2.onnx'));
  const buffer = await readFile(model);
  const bytes = new Uint8Array([...buffer]);
  const app = { handler: pathToFileURL(handler), userConfig: { factor: 3, list: [{ deep: true }] } };
  const options = {
    models: { url: model, text: model.href, buffer, bytes, memory: { bytes: bytes.buffer, batching: { maxSize: 2 } } },
    replicas: 1,
    session: { graphOptimizationLevel: 'all', extra: { session: {} } },
    deployments: { app },
    checkpoint: { file: pathToFileURL(join(scratch, 'check point.json')) },
    weightStore: { directory: pathToFileURL(join(scratch, 'weights')) },
  };
  const first = await createEngine(options);
  const ids = Object.keys(options.models);
  const seen = { models: await Promise.all(ids.map((id) => outcome(first.run(id, feeds())))) };
  seen.handler = await outcome(first.run('app', { do: 'run', model: 'url', x: Float32Array.of(5, 0, 0, 0) }));
  seen.thrown = await outcome(first.run('app', { do: 'throw' }));
  seen.refused = await outcome(first.run('url', {}));
  const signal = new BrowserSignal();
  const cancelled = first.run('app', { do: 'wait' }, { signal });
  signal.abort(new Error('changed my mind'));
  seen.cancelled = await outcome(cancelled);
  seen.reason = await cancelled.catch(({ cause }) => cause.message);
  seen.listeners = signal.listeners;
  seen.late = await outcome(first.run('app', { do: 'wait' }, { timeoutMs: 1 }));
  seen.again = await outcome(first.deployments.create('app', app).then(({ status }) => status));
  await (await first.deployments.update('app', { maxQueuedRequests: 7 })).done;
  await first.close();

  const next = await createEngine(options);
  const changed = { ...app, maxQueuedRequests: 7 };
  seen.restored = await outcome(next.deployments.create('app', changed).then(({ status }) => status));
  await next.destroy();
  seen.missing = await outcome(createEngine({ models: { missing: join(scratch, 'missing.onnx') } }));

  const directory = await createEngine({ models: pathToFileURL(scratch), replicas: 1 });
  await directory.models.deploy('deployed', { 'model.onnx': bytes });
  seen.deployed = await outcome(directory.run('deployed', feeds()));
  await directory.close();
  return seen;
}
