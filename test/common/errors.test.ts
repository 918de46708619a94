import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../dist/common/errors.js';
import { fromErrorRecord, toErrorRecord } from '../../dist/common/values/error-record.js';
import { directory } from '../support/directories.js';

const folder = directory({ 'package.json': '{ "type": "module" }' });
cpSync(fileURLToPath(new URL('../../dist/common', import.meta.url)), join(folder, 'common'), { recursive: true });
const copy: typeof import('../../dist/common/errors.js') = await import(
  pathToFileURL(join(folder, 'common/errors.js')).href
);
const theirs = new copy.InfermuxError('QUEUE_FULL', 'full', { retryAfterMs: 5, cause: new Error('why') });

class Narrower extends InfermuxError {}

describe('an InfermuxError of another copy of the package', () => {
  it('is an instance here, and the other way round', () => {
    expect(copy.InfermuxError).not.toBe(InfermuxError);
    expect([theirs instanceof InfermuxError, new InfermuxError('INTERNAL', '') instanceof copy.InfermuxError]).toEqual([
      ...[true, true],
    ]);
  });

  it('keeps what it says across threads', () => {
    const crossed = fromErrorRecord(structuredClone(toErrorRecord(theirs)));
    expect(crossed).toMatchObject({ code: 'QUEUE_FULL', message: 'full', retryable: true, retryAfterMs: 5 });
  });
});

it('other values are no InfermuxErrors, not even those that cannot be looked at', () => {
  const hidden = new Proxy(
    {},
    {
      has() {
        throw new Error('hidden');
      },
    },
  );
  const others = [new Error('a'), { name: 'InfermuxError', code: 'INTERNAL', message: 'a' }, null, 'a', hidden];
  expect(others.map((other) => other instanceof InfermuxError)).toEqual(others.map(() => false));
});

it('a subclass has its own instances alone', () => {
  const own: unknown = new Narrower('INTERNAL', 'a');
  expect([own instanceof Narrower, own instanceof InfermuxError]).toEqual([true, true]);
  expect([theirs instanceof Narrower, new InfermuxError('INTERNAL', 'a') instanceof Narrower]).toEqual([false, false]);
});

it('the error of another realm keeps message, stack and cause across threads', () => {
  const error = runInNewContext('new RangeError("too far", { cause: new Error("why") })');
  const crossed = fromErrorRecord(structuredClone(toErrorRecord(error)));
  expect(crossed).toMatchObject({
    code: 'INTERNAL',
    message: 'too far',
    cause: { message: 'why', stack: error.stack },
  });
});
