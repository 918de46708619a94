import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../../dist/common/errors.js';
import { absolutePath, isPath, moduleUrl } from '../../../dist/common/files/paths.js';

const refusal = (value: unknown) => {
  try {
    return `taken as ${absolutePath('models', value as string)}`;
  } catch (error) {
    return `${(error as InfermuxError).code}: ${(error as InfermuxError).message}`;
  }
};

describe('a path', () => {
  it('begins at the working directory, unless it is absolute', () => {
    expect(
      ['a b/ü.onnx', '/a/../b', './a%20b', 'resnet:v1.onnx', 'C:/models'].map((path) => absolutePath('', path)),
    ).toEqual([...[resolve('a b/ü.onnx'), '/b', resolve('a%20b'), resolve('resnet:v1.onnx'), resolve('C:/models')]]);
  });

  it.each([
    ['file:///models/my%20model.onnx', '/models/my model.onnx'],
    ['file:///models/my model.onnx', '/models/my model.onnx'],
    ['file:///models/%C3%BC/模型.onnx?v=2#top', '/models/ü/模型.onnx'],
    ['FILE:///models', '/models'],
    ['file://localhost/models', '/models'],
    ['file:///models/a%2520b', '/models/a%20b'],
  ])('may be the URL %s, as an object and as text', (text, path) => {
    expect([absolutePath('', text), absolutePath('', new URL(text))]).toEqual([path, path]);
    expect([isPath(text), isPath(new URL(text))]).toEqual([undefined, undefined]);
  });

  it('comes back from its URL, whatever is in it', () => {
    const name = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 8 })
      .filter((text) => !/\p{Cc}|[/]|^\.\.?$/u.test(text));
    fc.assert(
      fc.property(fc.array(name, { minLength: 1, maxLength: 3 }), (names) => {
        const path = resolve(`/${names.join('/')}`);
        const url = pathToFileURL(path);
        expect([absolutePath('', path), absolutePath('', url), absolutePath('', url.href)]).toEqual([path, path, path]);
      }),
    );
  });

  it.each(['data:,abc', 'blob:nodedata:1', 'node:fs', 'http:/a', 'https:a', 'x://y', 'file:rel', 'file:./rel', 'a\0b'])(
    'is not the text %j',
    (text) => {
      expect(refusal(text)).toMatch(/^INVALID_ARGUMENT: models must be a path or a file: URL /);
    },
  );

  it.each([
    ['https://example.org/model.onnx', 'https://example.org/model.onnx', 'save the file on this machine first'],
    ['data:text/javascript,1', 'data:text/javascript,1', 'save the file on this machine first'],
    ['file://server/share/a.onnx', 'file://server/share/a.onnx', 'name the path instead'],
    ['file:///a%2Fb.onnx', 'file:///a%2Fb.onnx', 'encoded / characters: name the path instead'],
    ['file:///a%zz', 'file:///a%zz', 'URI malformed: name the path instead'],
  ])('is not the URL %s', (text, shown, advice) => {
    const refused = refusal(new URL(text));
    expect(refused).toMatch(/^INVALID_ARGUMENT: models must be a path or a file: URL \(/);
    expect(refused).toContain(advice);
    expect(refused).toContain(`got ${shown}`);
  });

  it.each([
    ['s3://bucket/a.onnx', 'got "s3://bucket/a.onnx"'],
    ['file://server/share', 'got "file://server/share"'],
    ['file:///a%2Fb', 'got "file:///a%2Fb"'],
    ['', 'models must be a path or a file: URL, got ""'],
    [7, 'models must be a path or a file: URL, got 7'],
    [undefined, 'models must be a path or a file: URL, got undefined'],
    [{ href: 'file:///a' }, "got { href: 'file:///a' }"],
  ])('is not %j', (value, message) => {
    expect(refusal(value)).toMatch(/^INVALID_ARGUMENT/);
    expect(refusal(value)).toContain(message);
  });
});

describe('the URL of a module', () => {
  it('is the same for its path and for each spelling of its URL', () => {
    const urls = ['/a b/~ü.mjs', 'file:///a%20b/~%C3%BC.mjs', new URL('file:///a b/%7E%c3%bc.mjs')];
    const { href } = pathToFileURL('/a b/~ü.mjs');
    expect(urls.map((url) => moduleUrl('', url))).toEqual([href, href, href]);
    expect(moduleUrl('', 'h.mjs')).toBe(pathToFileURL(resolve('h.mjs')).href);
  });

  it('keeps query and hash, which name another instance of the module', () => {
    expect(moduleUrl('', new URL('file:///h.mjs?v=1#a'))).toBe('file:///h.mjs?v=1#a');
    expect(moduleUrl('', 'file:///h.mjs?v=1#a')).toBe('file:///h.mjs?v=1#a');
    expect(moduleUrl('', '/h.mjs?v=1#a')).toBe('file:///h.mjs%3Fv=1%23a');
  });
});
