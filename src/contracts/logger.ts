export type LoggedFields = Readonly<Record<string, unknown>>;

/** The methods that the engine needs of a logger. A pino logger has them; so have `console` and a winston logger. */
export interface EngineLogger {
  debug(fields: LoggedFields, message: string): unknown;
  info(fields: LoggedFields, message: string): unknown;
  warn(fields: LoggedFields, message: string): unknown;
  error(fields: LoggedFields, message: string): unknown;
}
