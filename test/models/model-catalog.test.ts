import { describe, expect, it } from 'vitest';
import { InfermuxError } from '../../dist/common/errors.js';
import { ModelCatalog } from '../../dist/models/model-catalog.js';
import type { FoundModel } from '../../dist/models/registered-model.js';

const found = (id: string, version: number): FoundModel => ({
  ...{ id, version, path: `/${id}/${version}`, bytes: 1, format: 'onnx', isPinned: false, fingerprint: 'f' },
});

function catalogOf(models: Readonly<Record<string, readonly number[]>>): ModelCatalog {
  const catalog = new ModelCatalog();
  for (const [id, versions] of Object.entries(models)) {
    const served = versions.map((version) => catalog.register(found(id, version)));
    catalog.put({ id, served, versions, problem: undefined });
  }
  return catalog;
}

describe('the catalog', () => {
  it('resolves an id to its latest version, and id@version to that one', () => {
    const catalog = catalogOf({ a: [2, 9, 10] });
    expect(catalog.resolve('a').version).toBe(10);
    expect(catalog.resolve('a@9').version).toBe(9);
  });

  it('names what there is when it knows no such model', () => {
    const catalog = catalogOf({ a: [2], b: [1] });
    expect(() => catalog.resolve('a@3')).toThrow('no model "a@3"; versions of "a": 2');
    expect(() => catalog.resolve('c')).toThrow('no model "c"; known models: "a", "b"');
    expect(() => new ModelCatalog().resolve('c')).toThrow('known models: none');
    catalog.put({ id: 'a', served: [catalog.register(found('a', 2))], versions: [1, 2], problem: undefined });
    expect(() => catalog.resolve('a@1')).toThrow('versions of "a": 2; found, but not served: 1');
  });

  it('says why a model that is there cannot be served', () => {
    const catalog = catalogOf({ a: [1] });
    const problem = new InfermuxError('INVALID_ARGUMENT', 'its manifest is bad');
    catalog.put({ id: 'b', served: [], versions: [], problem });
    expect(() => catalog.resolve('b')).toThrow(expect.objectContaining({ code: 'MODEL_LOAD_FAILED', cause: problem }));
  });

  it('gives each revision of a version a key of its own, and forgets it when it is told to', () => {
    const catalog = catalogOf({ a: [1] });
    const first = catalog.resolve('a');
    const second = catalog.register(found('a', 1));
    expect([first.key, second.key]).toEqual(['a@1', 'a@1#2']);
    expect(catalog.resolve('a@1')).toBe(first);
    catalog.put({ id: 'a', served: [second], versions: [1], problem: undefined });
    expect(catalog.resolve('a@1')).toBe(second);
    expect(catalog.byKey('a@1')).toBe(first);
    catalog.forget('a@1');
    catalog.setMetadata('a@1', { inputs: [], outputs: [], omittedOutputs: [] });
    expect([catalog.byKey('a@1'), catalog.metadata('a@1')]).toEqual([undefined, undefined]);
  });

  it('knows a removed model and its versions no more', () => {
    const catalog = catalogOf({ a: [1, 2] });
    catalog.remove('a');
    expect([catalog.find('a'), catalog.find('a@1'), catalog.find('a@2')]).toEqual([undefined, undefined, undefined]);
    expect(catalog.models).toEqual([]);
  });
});
