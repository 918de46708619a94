import { type EngineLogger, InfermuxError } from '../../index.js';
import type { Parameters } from '../../open-inference/inference-call.js';

/** Levels that a pino logger may have, from the one with the fewest lines. */
const LEVELS = ['silent', 'error', 'warn', 'info', 'debug'] as const;

/** The log's settings in the form of the protocol's extension. */
export interface LogState {
  readonly log_file: string;
  readonly log_info: boolean;
  readonly log_warning: boolean;
  readonly log_error: boolean;
  readonly log_verbose_level: number;
  readonly log_format: string;
}

/** Reads and changes the level of a pino logger. */
export class LogSettings {
  readonly #logger: { level?: unknown } | undefined;

  constructor(logger: EngineLogger | undefined) {
    this.#logger = logger as { level?: unknown } | undefined;
  }

  read(): LogState {
    const index = LEVELS.indexOf(this.#level);
    return {
      log_file: '',
      log_info: index >= LEVELS.indexOf('info'),
      log_warning: index >= LEVELS.indexOf('warn'),
      log_error: index >= LEVELS.indexOf('error'),
      log_verbose_level: index >= LEVELS.indexOf('debug') ? 1 : 0,
      log_format: 'default',
    };
  }

  /**
   * Sets the level so that what is wanted is logged, and what is more severe.
   *
   * @throws InfermuxError `INVALID_ARGUMENT` for another form; `FAILED_PRECONDITION` when the logger has no level.
   */
  change(wanted: Parameters): LogState {
    for (const name of ['log_info', 'log_warning', 'log_error']) {
      if (!['undefined', 'boolean'].includes(typeof wanted[name])) throw invalid(`${name} must be true or false`);
    }
    const { log_verbose_level: verbose } = wanted;
    const isNumber = ['string', 'number', 'bigint'].includes(typeof verbose) && Number.isSafeInteger(Number(verbose));
    if (verbose !== undefined && !isNumber) throw invalid('log_verbose_level must be an integer');
    if (typeof this.#logger?.level !== 'string') {
      throw new InfermuxError(
        'FAILED_PRECONDITION',
        'the logger has no level that can be changed: give the server a pino logger',
      );
    }
    const state = { ...this.read(), ...wanted };
    if (Number(state.log_verbose_level) > 0) this.#logger.level = 'debug';
    else if (state.log_info) this.#logger.level = 'info';
    else if (state.log_warning) this.#logger.level = 'warn';
    else this.#logger.level = state.log_error ? 'error' : 'silent';
    return this.read();
  }

  get #level(): (typeof LEVELS)[number] {
    const level = this.#logger?.level;
    // `trace` logs what `debug` does.
    if (level === 'trace') return 'debug';
    return LEVELS.find((each) => each === level) ?? (this.#logger === undefined ? 'silent' : 'info');
  }
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
