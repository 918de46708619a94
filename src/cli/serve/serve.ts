import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Logger, pino } from 'pino';
import { createEngine, type EngineOptions, type InferenceEngine, InfermuxError } from '../../index.js';
import type { InferenceServer } from '../../server/server.js';
import { readConfigFile } from './config-file.js';
import { greeting } from './greeting.js';
import { type ServeFlags, withFlags } from './serve-options.js';
import { shownConfig } from './shown-config.js';

const OWN_MODELS = fileURLToPath(new URL('../../../native-models', import.meta.url));
const GRACE_SECONDS = 30;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/**
 * Serves models until a signal ends it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for wrong options; `FAILED_PRECONDITION` when a port cannot be had.
 */
export async function serve(flags: ServeFlags): Promise<void> {
  if ((flags.tlsKey === undefined) !== (flags.tlsCert === undefined)) {
    throw new InfermuxError('INVALID_ARGUMENT', '--tls-key and --tls-cert go together: a server needs both');
  }
  const config = withFlags(flags.config === undefined ? {} : await readConfigFile(flags.config), flags);
  const log = pino({ level: flags.logLevel ?? (flags.logRequests === true ? 'info' : 'warn') }, pino.destination(2));
  const engineOptions: EngineOptions = { models: OWN_MODELS, logger: log, ...config.engine };
  const serverOptions = { logger: log, ...config.server };
  if (flags.printConfig === true) {
    process.stdout.write(`${shownConfig({ engine: engineOptions, server: serverOptions })}\n`);
    return;
  }
  // The first signal may come while it starts.
  const end = new AbortController();
  const signals = onSignals(end, log);
  // The threads start while the server's packages are read.
  const [{ createServer }, engine] = await Promise.all([import('../../server/server.js'), createEngine(engineOptions)]);
  let server: InferenceServer | undefined;
  try {
    if (flags.modelName !== undefined) await nameOnlyModel(engine, flags.modelName);
    server = await createServer(engine, serverOptions);
    process.stdout.write(await greeting(engine, server, engineOptions.models));
    if (!end.signal.aborted)
      await new Promise((resolve) => end.signal.addEventListener('abort', resolve, { once: true }));
  } finally {
    const graceMs = (flags.grace ?? GRACE_SECONDS) * 1_000;
    await server?.close({ graceMs });
    await engine.close({ graceMs });
    signals.off();
  }
}

/** Ends in peace at the first signal, and at once at the second. */
function onSignals(end: AbortController, log: Logger): { off(): void } {
  const listener = (signal: (typeof SIGNALS)[number]) => {
    // Node and the engine see to it that no thread is ended within a native call.
    if (end.signal.aborted) process.exit(128 + constants.signals[signal]);
    log.info({ signal }, 'ending: requests are answered; once more ends at once');
    end.abort();
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return {
    off() {
      for (const signal of SIGNALS) process.off(signal, listener);
    },
  };
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
