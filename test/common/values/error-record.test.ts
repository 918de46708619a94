import { expect, it } from 'vitest';
import { ERROR_CODES, type ErrorCode, InfermuxError } from '../../../dist/common/errors.js';
import { fromErrorRecord, toErrorRecord } from '../../../dist/common/values/error-record.js';

const crossThreads = (error: unknown) => fromErrorRecord(structuredClone(toErrorRecord(error)));

it.each(Object.keys(ERROR_CODES) as ErrorCode[])('carries %s across threads intact', (code) => {
  const error = new InfermuxError(code, 'what happened', { cause: new Error('why'), retryAfterMs: 5, retryable: true });
  expect(crossThreads(error)).toMatchObject({
    name: 'InfermuxError',
    code,
    message: 'what happened',
    retryable: true,
    retryAfterMs: 5,
    cause: expect.objectContaining({ message: 'why' }),
  });
});

it('makes INTERNAL of an error that is not ours and keeps the other stack', () => {
  const error = new TypeError('x is not a function');
  const crossed = crossThreads(error);
  expect(crossed).toMatchObject({ code: 'INTERNAL', message: 'x is not a function' });
  expect((crossed.cause as Error).stack).toBe(error.stack);
});
