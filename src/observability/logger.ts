import { type Logger, pino } from 'pino';

/** What the engine needs of a logger; a pino logger is one. */
export type EngineLogger = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;

export const silentLogger: EngineLogger = pino({ level: 'silent' });
