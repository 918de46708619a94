import { InfermuxError, messageOf, show, showNames, withStackOf } from '../../common/errors.js';
import { importFile } from '../../common/files/import-file.js';
import { HANDLER_FUNCTIONS, type Handler } from '../../contracts/handler.js';

/**
 * Imports a handler's module.
 *
 * @throws InfermuxError `REPLICA_FAILED` when it cannot be imported or is not a handler.
 */
export async function importHandler(address: string): Promise<Handler> {
  let module: Readonly<Record<string, unknown>>;
  try {
    module = await importFile(address);
  } catch (cause) {
    throw noHandler(`handler ${address} could not be imported: ${messageOf(cause)}`, cause);
  }
  const byDefault = module['default'];
  const exported = isHandler(module) ? module : byDefault;
  if (!isHandler(exported)) {
    const names = showNames(Object.keys(module));
    throw noHandler(
      `handler ${address} must export a function handle or handleBatch, by name or in its default; it exports ${names}`,
    );
  }
  for (const name of HANDLER_FUNCTIONS) {
    const optional = exported[name];
    if (optional === undefined || typeof optional === 'function') continue;
    throw noHandler(`handler ${address}: ${name} must be a function, got ${show(optional)}`);
  }
  return exported;
}

function isHandler(exported: unknown): exported is Handler {
  if (exported === null || typeof exported !== 'object') return false;
  const { handle, handleBatch } = exported as Handler;
  return typeof handle === 'function' || typeof handleBatch === 'function';
}

function noHandler(message: string, cause?: unknown): InfermuxError {
  return withStackOf(cause, new InfermuxError('REPLICA_FAILED', message, { cause, retryable: false }));
}
