import { type Logger, pino } from 'pino';
import { messageOf } from '../common/errors.js';

/** The methods that the engine needs of a logger, such as a pino logger. */
export type EngineLogger = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;

type Level = keyof EngineLogger;
type Fields = Readonly<Record<string, unknown>>;

/** Writes to the caller's logger, or nowhere. A logger that throws costs one warning, not a request. */
export class Log {
  readonly #logger: EngineLogger;
  #hasWarned = false;

  constructor(logger: EngineLogger = pino({ level: 'silent' })) {
    this.#logger = logger;
  }

  write(level: Level, fields: Fields, message: string): void {
    try {
      this.#logger[level](fields, message);
    } catch (error) {
      if (this.#hasWarned) return;
      this.#hasWarned = true;
      process.emitWarning(`infermux: options.logger failed: ${messageOf(error)}`);
    }
  }
}
