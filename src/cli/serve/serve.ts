import { constants } from 'node:os';
import { type Logger, pino } from 'pino';
import { createEngine, type EngineOptions, type InferenceEngine, InfermuxError } from '../../index.js';
import type { InferenceServer } from '../../server/server.js';
import { readConfigFile } from './config-file.js';
import { greeting } from './greeting.js';
import type { Membership } from './join-cluster.js';
import { OWN_MODELS } from './own-models.js';
import type { ServeFlags } from './serve-options.js';
import { shownConfig } from './shown-config.js';
import { withFlags } from './with-flags.js';

const GRACE_SECONDS = 30;
/** Longest time that the second signal takes. */
const AT_ONCE_MS = 500;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/**
 * Serves models until a signal ends it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for wrong options; `FAILED_PRECONDITION` if a port is not available.
 */
export async function serve(flags: ServeFlags): Promise<void> {
  const { tlsKey, tlsCert, tlsCa } = flags;
  if ((tlsKey === undefined) !== (tlsCert === undefined) || (tlsCa !== undefined && tlsKey === undefined)) {
    const message =
      '--tls-key and --tls-cert go together, and --tls-ca with both: a server needs a certificate of its own';
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (flags.advertise !== undefined && flags.nats === undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', '--advertise is what --nats announces, which is not given');
  }
  const config = withFlags(flags.config === undefined ? {} : await readConfigFile(flags.config), flags);
  const level = flags.logLevel ?? (config.server?.logRequests === true ? 'info' : 'warn');
  const log = pino({ level }, pino.destination(2));
  const engineOptions: EngineOptions = { models: OWN_MODELS, logger: log, ...config.engine };
  const serverOptions = { logger: log, ...config.server };
  if (flags.printConfig === true) {
    const { resolveServer } = await import('../../server/server-options.js');
    const { http = false, grpc = false } = resolveServer(serverOptions);
    process.stdout.write(`${shownConfig({ engine: engineOptions, server: { ...serverOptions, http, grpc } })}\n`);
    return;
  }
  // What fails is told by the server itself.
  process.env['GRPC_VERBOSITY'] ??= 'NONE';
  // The first signal may come while it starts.
  const end = new AbortController();
  if (hasTelemetry()) await traceRequests(log);
  let [engine, server, membership]: [InferenceEngine?, InferenceServer?, Membership?] = [];
  const signals = onSignals(end, log, () => Promise.allSettled([server?.destroy(), engine?.destroy()]));
  try {
    // The threads start while the server's packages are read.
    const starting = createEngine(engineOptions);
    const [{ createServer }] = await Promise.all([import('../../server/server.js'), starting]);
    engine = await starting;
    if (flags.modelName !== undefined) await nameOnlyModel(engine, flags.modelName);
    server = await createServer(engine, serverOptions);
    if (flags.nats !== undefined) {
      const { joinCluster } = await import('./join-cluster.js');
      const isSecure = config.server?.tls !== undefined;
      membership = await joinCluster(flags.nats, server, { host: flags.advertise, isSecure, log });
    }
    process.stdout.write(await greeting(engine, server, engineOptions.models, config.server));
    if (!end.signal.aborted)
      await new Promise((resolve) => end.signal.addEventListener('abort', resolve, { once: true }));
  } finally {
    const graceMs = (flags.grace ?? GRACE_SECONDS) * 1_000;
    // Proxies are told first.
    await membership?.drain();
    await server?.close({ graceMs });
    await membership?.leave();
    await engine?.close({ graceMs });
    signals.off();
  }
}

/** Ends in peace at the first signal, and at once at the second. @param destroy ends all work. */
function onSignals(end: AbortController, log: Logger, destroy: () => Promise<unknown>): { off(): void } {
  let count = 0;
  const listener = (signal: (typeof SIGNALS)[number]) => {
    count += 1;
    if (count === 1) {
      log.info({ signal }, 'ending: requests are answered; once more ends at once');
      end.abort();
    } else if (count === 2) void endAtOnce(signal, destroy);
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return {
    off() {
      for (const signal of SIGNALS) process.off(signal, listener);
    },
  };
}

/**
 * Ends the process as soon as no thread is in a native call: Node would abort it. A call that takes longer is ended with
 * the process.
 */
async function endAtOnce(signal: (typeof SIGNALS)[number], destroy: () => Promise<unknown>): Promise<void> {
  const timer = setTimeout(() => process.kill(process.pid, 'SIGKILL'), AT_ONCE_MS);
  await destroy();
  clearTimeout(timer);
  process.exit(128 + constants.signals[signal]);
}

/** Whether the program that `--import` names, for example, has registered a provider of OpenTelemetry. */
function hasTelemetry(): boolean {
  const api = Reflect.get(globalThis, Symbol.for('opentelemetry.js.api.1')) as { readonly trace?: unknown } | undefined;
  return api?.trace !== undefined;
}

/** An agent may bring the package of its own: then it is not to be found here, and the server starts all the same. */
async function traceRequests(log: Logger): Promise<void> {
  try {
    const { InfermuxInstrumentation } = await import('../../opentelemetry/index.js');
    new InfermuxInstrumentation().enable();
  } catch (err) {
    log.warn({ err }, 'requests are not traced: install @opentelemetry/api beside infermux');
  }
}

/** Gives the only model another name, as KServe has it: its file is always named `model.onnx`. */
async function nameOnlyModel(engine: InferenceEngine, name: string): Promise<void> {
  const ids = [...new Set(engine.models.list().map(({ id }) => id))];
  const [only] = ids;
  if (only === undefined || ids.length > 1) {
    const message = `--model-name is for one model, and there are ${ids.length}: name a directory with model.onnx alone`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (only !== name) await engine.endpoints.set(name, { traffic: { [only]: 1 } });
}
