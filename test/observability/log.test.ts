import { pino } from 'pino';
import { expect, expectTypeOf, it, vi } from 'vitest';
import type { EngineLogger } from '../../dist/index.js';
import { Log } from '../../dist/observability/log.js';

/** The methods of a winston logger, as its types have them. */
interface WinstonMethod {
  (message: string, callback: () => void): unknown;
  (message: string, meta: unknown, callback: () => void): unknown;
  (message: string, ...meta: unknown[]): unknown;
  // biome-ignore lint/suspicious/noExplicitAny: so it is in winston's types
  (message: any): unknown;
  (info: object): unknown;
}

it('a logger of pino fits, and so do console and winston', () => {
  expectTypeOf(pino()).toExtend<EngineLogger>();
  expectTypeOf<typeof console>().toExtend<EngineLogger>();
  expectTypeOf<Record<'debug' | 'info' | 'warn' | 'error', WinstonMethod>>().toExtend<EngineLogger>();
  expectTypeOf<{ warn: (fields: object, message: string) => void }>().not.toExtend<EngineLogger>();
});

it('fields and message go to the method of the level', () => {
  const lines: unknown[] = [];
  const log = new Log(
    pino({ level: 'debug', base: null, timestamp: false }, { write: (line) => lines.push(JSON.parse(line)) }),
  );
  log.write('debug', { replica: 'default-0' }, 'it runs');
  log.write('error', { model: 'a' }, 'it fails');
  expect(lines).toEqual([
    { level: 20, replica: 'default-0', msg: 'it runs' },
    { level: 50, model: 'a', msg: 'it fails' },
  ]);
});

it('a method of a logger is called as a method', () => {
  const logger = { lines: [] as string[], debug: vi.fn(), info: vi.fn(), error: vi.fn(), warn };
  function warn(this: { lines: string[] }, _fields: object, message: string) {
    this.lines.push(message);
  }
  new Log(logger).write('warn', {}, 'look');
  expect(logger.lines).toEqual(['look']);
});

it('without a logger nothing is written, and nothing fails', () => {
  const written = vi.spyOn(process.stdout, 'write');
  new Log(undefined).write('error', { at: 1 }, 'nobody hears');
  expect(written).not.toHaveBeenCalled();
  written.mockRestore();
});
