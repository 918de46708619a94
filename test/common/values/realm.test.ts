import { parse, pathToFileURL } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { runInNewContext, runInThisContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isObject } from '../../../dist/common/checks.js';
import { messageOf, show } from '../../../dist/common/errors.js';
import {
  type Bytes,
  bytesOf,
  isAbortSignal,
  isBytes,
  isError,
  isSameData,
  isUrl,
} from '../../../dist/common/values/realm.js';

/** The value of an expression in a realm of its own, whose classes are not this realm's. */
const foreign = (expression: string, globals: object = {}): unknown => runInNewContext(`(${expression})`, globals);

/** As jsdom's, which are of no class of Node's. */
const signal = { aborted: false, addEventListener: () => undefined, removeEventListener: () => undefined };
const url = { href: 'file:///a', protocol: 'file:', searchParams: {} };

describe('bytes', () => {
  it.each([
    'new Uint8Array([1, 2])',
    'new (class extends Uint8Array {})([1, 2])',
    'new Uint8Array([0, 1, 2]).subarray(1)',
    'new Uint8Array([1, 2]).buffer',
    '((shared) => (new Uint8Array(shared).set([1, 2]), shared))(new SharedArrayBuffer(2))',
  ])('are %s, of this realm and of another', (expression) => {
    for (const value of [foreign(expression), runInThisContext(expression)]) {
      expect(isBytes(value)).toBe(true);
      expect([...bytesOf(value as Bytes)]).toEqual([1, 2]);
    }
  });

  it.each(['[1, 2]', 'new Uint16Array(2)', 'new DataView(new ArrayBuffer(2))', '"12"', '{ length: 2 }', 'null'])(
    'are not %s',
    (expression) => expect(isBytes(foreign(expression))).toBe(false),
  );
});

describe('a URL', () => {
  it('is one of Node or one like it, not a text, a link or what `url.parse` returns', () => {
    expect([pathToFileURL('/a'), url].map(isUrl)).toEqual([true, true]);
    const link = { href: 'file:///a', protocol: 'file:', pathname: '/a' };
    expect(['file:///a', parse('file:///a'), link, null, undefined].map(isUrl)).toEqual([...Array(5)].fill(false));
  });

  it('is shown as its text, which may be long but not without end', () => {
    expect([show(new URL('https://example.org/a b')), show(url)]).toEqual(['https://example.org/a%20b', 'file:///a']);
    expect(show(new URL(`data:text/javascript,${'x'.repeat(10_000)}`)).length).toBeLessThan(400);
  });
});

it('a signal is what can be listened to and tells whether it is aborted', () => {
  expect([AbortSignal.timeout(1), signal].map(isAbortSignal)).toEqual([true, true]);
  const others = [new EventTarget(), { aborted: true }, { ...signal, aborted: undefined }, null, true];
  expect(others.map(isAbortSignal)).toEqual(others.map(() => false));
});

it.each([
  ['new TypeError("of another realm")', 'of another realm'],
  ['Object.create(Error.prototype, { message: { value: "an heir" } })', 'an heir'],
  ['{ name: "AbortError", message: "as jsdom makes it" }', 'as jsdom makes it'],
  ['{ message: "a mere object" }', "{ message: 'a mere object' }"],
  ['Object.assign(new Error(), { message: 7 })', /^\[?Error/],
  ['new Proxy({}, { get() { throw 1 } })', 'something that cannot be shown'],
  ['undefined', 'undefined'],
])('the message of %s is %j', (expression, message) => {
  expect(messageOf(foreign(expression))).toMatch(message);
});

it('an error is one of any realm, or what looks like one', () => {
  const errors = [new Error('a'), foreign('new Error("a")'), new DOMException('a'), { name: 'a', message: 'b' }];
  expect(errors.map(isError)).toEqual([true, true, true, true]);
  expect([{ message: 'a' }, 'a', null, () => undefined].map(isError)).toEqual([false, false, false, false]);
});

it('a plain object is one of any realm', () => {
  for (const expression of ['{ a: 1 }', 'Object.create(null)', 'JSON.parse("{}")'])
    expect(isObject(foreign(expression)), expression).toBeUndefined();
  for (const expression of ['new Map()', 'new Date()', '[]', 'new (class A {})()', 'new Uint8Array()', 'null'])
    expect(isObject(foreign(expression)), expression).toBe('a plain object');
});

describe('the same data', () => {
  const plain = fc.jsonValue({ maxDepth: 4, noUnicodeString: false });

  it('is the same in another realm', () => {
    fc.assert(
      fc.property(plain, (value) => {
        const text = JSON.stringify(value);
        return isSameData(JSON.parse(text), foreign('JSON.parse(text)', { text }));
      }),
    );
  });

  it('is what `isDeepStrictEqual` says within a realm', () => {
    fc.assert(fc.property(plain, plain, (left, right) => isSameData(left, right) === isDeepStrictEqual(left, right)));
  });

  it.each<[unknown, unknown]>([
    [[1], { 0: 1, length: 1 }],
    [{ a: undefined }, {}],
    [{ a: undefined }, { b: undefined }],
    [[undefined], [null]],
    // biome-ignore lint/suspicious/noSparseArray: a hole becomes null in JSON.
    [[,], [null]],
    [0, -0],
    [{ [Symbol.iterator]: 1 }, {}],
    [new Date(0), new Date(0).toJSON()],
    [new Map([[1, 2]]), {}],
    [Uint8Array.of(1), Uint8Array.of(2)],
    [Uint8Array.of(1), { 0: 1 }],
    [{ a: { b: [1, { c: 2 }] } }, { a: { b: [1, { c: 3 }] } }],
  ])('%j is not %j', (left, right) => {
    expect([isSameData(left, right), isSameData(right, left)]).toEqual([false, false]);
  });

  it('may hold other objects that are equal', () => {
    expect(isSameData({ a: [Uint8Array.of(1)] }, { a: [Uint8Array.of(1)] })).toBe(true);
    expect(isSameData(Number.NaN, Number.NaN)).toBe(true);
  });
});
