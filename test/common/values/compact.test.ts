import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compact } from '../../../dist/common/values/compact.js';
import { areAlike, cloneable, objectsOf, resizable } from '../../support/cloneables.js';

const memory = new Float32Array(1_000);
const part = memory.subarray(4, 8);

/** How structured clone ends. */
const outcome = (value: unknown) => {
  try {
    structuredClone(value);
    return 'cloned';
  } catch (error) {
    return String(error);
  }
};

const bytesBeside = (value: unknown) => {
  const objects = objectsOf(value);
  return [...objects].filter(
    (view) =>
      ArrayBuffer.isView(view) &&
      view.byteLength !== view.buffer.byteLength &&
      !objects.has(view.buffer) &&
      !(view.buffer instanceof SharedArrayBuffer),
  );
};

describe('a compact value', () => {
  it('has the same clone as the value, without the memory beside its views', () => {
    let parts = 0;
    fc.assert(
      fc.property(cloneable, (value) => {
        // An error that is its own cause, for example.
        if (outcome(value) !== 'cloned') {
          expect(outcome(compact(value))).toBe(outcome(value));
          return;
        }
        const clone = structuredClone(value);
        const own = structuredClone(compact(value));
        parts += bytesBeside(clone).length;
        expect(bytesBeside(own)).toEqual([]);
        expect(areAlike(own, clone)).toBe(true);
        // The value has not changed.
        expect(areAlike(structuredClone(value), clone)).toBe(true);
        if (bytesBeside(value).length === 0) expect(compact(value)).toBe(value);
      }),
      { numRuns: 500 },
    );
    expect(parts).toBeGreaterThan(50);
  });

  it('is the value itself, or shares with it what did not change', () => {
    const value = { whole: { image: new Float32Array(9) }, list: [1, [2]], part };
    const own = compact(value);
    expect(own).not.toBe(value);
    expect([own.whole, own.list]).toEqual([value.whole, value.list]);
    expect(own.whole === value.whole && own.list === value.list).toBe(true);
    const { part: _, ...rest } = value;
    expect(compact(rest)).toBe(rest);
  });

  it.each([
    ['a Buffer of the common pool', Buffer.from('text'), 4],
    ['a typed array', part, 16],
    ['a DataView', new DataView(memory.buffer, 8, 5), 5],
    ['an empty view', memory.subarray(8, 8), 0],
    ['a view of WebAssembly memory', new Uint8Array(webAssemblyMemory(), 8, 3), 3],
    ['a view of another realm', runInNewContext('new Float64Array(9).subarray(1, 3)'), 16],
    ['a part of a resizable buffer', new Uint16Array(resizable(64, 128), 8), 56],
    ['the whole elements of a buffer that ends in half of one', halfElement(), 8],
  ])('puts %s on memory of its own', (_, view, bytes) => {
    const { buffer, byteLength } = compact(view) as ArrayBufferView;
    expect([byteLength, buffer.byteLength]).toEqual([bytes, bytes]);
    expect(structuredClone(compact(view))).toEqual(structuredClone(view));
  });

  it.each([
    ['a part of a buffer that is in the value', { buffer: memory.buffer, part }],
    ['a part of shared memory, also as a Buffer', [Buffer.from(new SharedArrayBuffer(8), 2, 2)]],
    ['all of a resizable buffer', [new Uint8Array(resizable(8, 16))]],
    ['what is no object', 'text'],
  ])('leaves %s alone', (_, value) => {
    expect(compact(value)).toBe(value);
  });

  it('finds views in objects of another realm', () => {
    const foreign = runInNewContext(
      `const part = new Uint8Array(9).subarray(1);
       ({ object: { part }, array: [part], map: new Map([[part, 1]]), set: new Set([part]),
          error: new TypeError('no', { cause: part }) })`,
    ) as object;
    expect(bytesBeside(structuredClone(foreign))).toHaveLength(1);
    const own = structuredClone(compact(foreign));
    expect(bytesBeside(own)).toEqual([]);
    expect(areAlike(own, structuredClone(foreign))).toBe(true);
  });

  it('does not ask the methods of classes that structured clone does not ask either', () => {
    class Greedy extends Float32Array {
      static get [Symbol.species]() {
        throw new Error('asked for its species');
      }
    }
    class Hiding extends Map<string, unknown> {
      override *[Symbol.iterator](): MapIterator<[string, unknown]> {}
      override entries(): MapIterator<[string, unknown]> {
        return this[Symbol.iterator]();
      }
    }
    const view = new Greedy(memory.buffer, 0, 2);
    expect(compact([new Hiding([['view', view]])])).toEqual([new Map([['view', new Float32Array(2)]])]);
  });

  const getters = {
    part,
    get unreadable() {
      throw new Error('as asked');
    },
  };
  const endless = (): object => ({
    part,
    get next() {
      return endless();
    },
  });
  const shrunk = resizable(16, 32);
  const outOfReach = [new Uint8Array(shrunk, 8, 8), new DataView(shrunk, 8, 8)];
  shrunk.resize(10);
  const detached = new Uint8Array(8);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  let deep: object = part;
  for (let depth = 0; depth < 20_000; depth += 1) deep = [deep];

  it.each<[string, unknown]>([
    ['a function', { part, call: () => 1 }],
    ['a symbol', { part, symbol: Symbol('a') }],
    ['a getter that throws', getters],
    ['getters without an end', endless()],
    ['a proxy', new Proxy({ part }, {})],
    ['a revoked proxy', { part, proxy: revoked() }],
    ['a promise', Object.assign(Promise.resolve(), { part })],
    ['a weak map', Object.assign(new WeakMap(), { part })],
    ['arguments', argumentsOf(part)],
    ['a typed array that its buffer does not reach any more', { part, view: outOfReach[0] }],
    ['a DataView that its buffer does not reach any more', outOfReach[1]],
    ['a detached view', { part, detached }],
    ['too deep a value', deep],
  ])('is refused as the value is: %s', (_, value) => {
    const refusal = outcome(value);
    expect(refusal).not.toBe('cloned');
    expect(outcome(compact(value))).toBe(refusal);
  });

  it('is as deep as structured clone can go', () => {
    const most = (holds: (value: unknown) => boolean) => {
      let value: unknown = part;
      let depth = 0;
      for (; holds(value); depth += 100) for (let level = 0; level < 100; level += 1) value = { value };
      return depth;
    };
    expect(most((value) => compact(value) !== value)).toBeGreaterThan(most((value) => outcome(value) === 'cloned'));
  });

  it('has the own properties of a long array, too, and no memory beside them', () => {
    const named = (elements: readonly unknown[]) => Object.assign([...elements], { note: 'kept', view: part });
    for (const length of [10, 65, 10_000]) {
      const value = named(new Array(length).fill(0));
      expect(structuredClone(compact(value))).toEqual(structuredClone(value));
      expect(bytesBeside(compact(value))).toEqual([]);
    }
    const ofViews = Object.assign(new Array(100).fill(part), { note: 'kept' });
    expect(structuredClone(compact(ofViews))).toMatchObject({ note: 'kept', 99: part });
  });

  it('is made without a walk over the holes of an array', () => {
    const sparse: unknown[] = [];
    sparse[4_000_000_000] = part;
    const own = compact(sparse);
    expect([own.length, (own.at(-1) as Float32Array).buffer.byteLength]).toEqual([4_000_000_001, 16]);
  });
});

function webAssemblyMemory(): ArrayBuffer {
  const { WebAssembly } = globalThis as unknown as {
    WebAssembly: { Memory: new (pages: { initial: number }) => { buffer: ArrayBuffer } };
  };
  return new WebAssembly.Memory({ initial: 1 }).buffer;
}

function halfElement(): Float32Array {
  const buffer = resizable(8, 16);
  const view = new Float32Array(buffer);
  buffer.resize(10);
  return view;
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

function argumentsOf(..._: unknown[]): object {
  // biome-ignore lint/complexity/noArguments: it is the subject.
  return Object.assign(arguments);
}
