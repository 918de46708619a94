import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InfermuxError, messageOf, show, showNames } from '../../../dist/common/errors.js';
import { cut, printable, printableLines } from '../../../dist/common/values/printable.js';

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
/** Texts with many characters of these kinds. */
const texts = fc.string({
  unit: fc.oneof(
    fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
    fc.constantFrom(
      '\u001b[31m',
      '\u009b',
      '\u007f',
      '\r',
      '\n',
      '\u202e',
      '\u2066',
      '\u200b',
      '\ud800',
      '\u{e0001}',
      'é',
    ),
  ),
});

describe('printable text', () => {
  it.each([
    ['plain, é, 模型 and 🙂', 'plain, é, 模型 and 🙂'],
    ['a\u001b[31mb\nc\td\u007f', 'a\\u001b[31mb\\nc\\td\\u007f'],
    ['\u0085\u009b31m', '\\u0085\\u009b31m'],
    ['\u202aa\u202e \u2066b\u2069', '\\u202aa\\u202e \\u2066b\\u2069'],
    ['a\u200bb\ufeffc\u2028d', 'a\\u200bb\\ufeffc\\u2028d'],
    ['half \ud83d of a pair', 'half \\ud83d of a pair'],
    ['\u{e0001}', '\\udb40\\udc01'],
  ])('%j is %j', (text, expected) => {
    expect(printable(text)).toBe(expected);
  });

  it('has no character that steers a terminal, and keeps all others', () => {
    fc.assert(
      fc.property(texts, (text) => {
        expect(printable(text)).not.toMatch(UNPRINTABLE);
        expect(printableLines(text).replaceAll('\n', '')).not.toMatch(UNPRINTABLE);
        expect(JSON.parse(`"${printable(text.replace(/["\\]/g, ''))}"`)).toBe(text.replace(/["\\]/g, ''));
      }),
    );
  });

  it('is cut between characters', () => {
    expect(cut('abcdef', 6)).toBe('abcdef');
    expect(cut('abcdefg', 6)).toBe('abc...');
    expect(cut('ab🙂defg', 6)).toBe('ab...');
  });
});

class Named {}
Object.defineProperty(Named, 'name', { value: '\u001b[31mred' });

describe('values in messages', () => {
  it.each([
    ['a text', '\u001b]0;title\u0007\u202e'],
    ['a key', { '\u202e\u001b[2J': 1 }],
    ['the name of a class', new Named()],
    ['a tag', { [Symbol.toStringTag]: '\u009b31m' }],
    ['an error', new Error('one\ntwo \u001b[31m')],
    ['what an object says of itself', { [Symbol.for('nodejs.util.inspect.custom')]: () => 'red \u001b[31m\n' }],
    ['a URL', { href: 'file:///\u001b[31m', protocol: 'file:', searchParams: {} }],
  ])('%s cannot steer a terminal', (_, value) => {
    expect(show(value)).not.toMatch(UNPRINTABLE);
    expect(messageOf(value)).not.toMatch(UNPRINTABLE);
  });

  it.each([
    ['a long list', () => new Array(1e6).fill(1)],
    ['a list with holes', () => Object.assign([], { length: 2 ** 32 - 1 })],
    ['many keys', () => Object.fromEntries(Array.from({ length: 10_000 }, (_, at) => [`key-${at}`, at]))],
    ['a long text', () => 'x'.repeat(1e6)],
    ['an object around a long text', () => new String('x'.repeat(1e6))],
    ['a long message', () => new Error('x'.repeat(1e6))],
    ['a large number', () => 10n ** 10_000n],
    ['what an object says of itself', () => ({ [Symbol.for('nodejs.util.inspect.custom')]: () => 'x'.repeat(1e6) })],
  ])('%s is short', (_, make) => {
    expect(show(make()).length).toBeLessThan(10_000);
  });

  it('of many names the first are listed', () => {
    expect(showNames([])).toBe('none');
    expect(showNames(['a', 'b'])).toBe('"a", "b"');
    expect(showNames(Array.from({ length: 1_000 }, (_, at) => `${at}`))).toMatch(/^"0", .*"11" and 988 more$/);
  });
});

describe('the message of an InfermuxError', () => {
  it('is on one line, cannot steer a terminal, and is not long', () => {
    const error = new InfermuxError('INTERNAL', `no file /models/\u001b[31m\nred ${'x'.repeat(1e6)}`);
    expect(error.message).toMatch(/^no file \/models\/\\u001b\[31m\\nred x+\.\.\.$/);
    expect(error.message.length).toBeLessThan(8_300);
    expect(error.stack).not.toContain('\u001b');
    expect(new InfermuxError('INTERNAL', '\u0001'.repeat(8_192)).message).toHaveLength(8_192);
  });
});
