import { messageOf } from '../common/errors.js';
import type { EngineLogger, LoggedFields } from '../contracts/logger.js';

/** Writes to the caller's logger, or nowhere. A logger that throws costs one warning, not a request. */
export class Log {
  readonly #logger: EngineLogger | undefined;
  #hasWarned = false;

  /** @param logger undefined: nobody logs. */
  constructor(logger: EngineLogger | undefined) {
    this.#logger = logger;
  }

  write(level: keyof EngineLogger, fields: LoggedFields, message: string): void {
    try {
      this.#logger?.[level](fields, message);
    } catch (error) {
      if (this.#hasWarned) return;
      this.#hasWarned = true;
      process.emitWarning(`infermux: options.logger failed: ${messageOf(error)}`);
    }
  }
}
