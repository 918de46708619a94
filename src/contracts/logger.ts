export type LoggedFields = Readonly<Record<string, unknown>>;

/** The methods of a logger that the engine needs. A pino logger, a winston logger and `console` have them. */
export interface EngineLogger {
  debug(fields: LoggedFields, message: string): unknown;
  info(fields: LoggedFields, message: string): unknown;
  warn(fields: LoggedFields, message: string): unknown;
  error(fields: LoggedFields, message: string): unknown;
}
