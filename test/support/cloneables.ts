import fc from 'fast-check';

type View = new (buffer: ArrayBufferLike, offset: number, length?: number) => unknown;

const VIEWS: readonly (View & { readonly BYTES_PER_ELEMENT?: number })[] = [
  ...[Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array],
  ...[Float32Array, Float64Array, BigInt64Array, BigUint64Array, DataView],
];

/** The compiler's library is older than resizable buffers. */
export type Resizable = ArrayBuffer & { resize(bytes: number): void };

export const resizable = (bytes: number, maxByteLength: number) =>
  Reflect.construct(ArrayBuffer, [bytes, { maxByteLength }]) as Resizable;

const BYTES = 48;

/** A view on a part, mostly, of the buffer of this number. */
const view = fc
  .record({ buffer: fc.nat(3), View: fc.constantFrom(...VIEWS), offset: fc.nat(6), length: fc.option(fc.nat(6)) })
  .map(({ buffer, View, offset, length }) => {
    const width = View.BYTES_PER_ELEMENT ?? 1;
    const most = BYTES / width;
    const start = Math.min(offset, most);
    const count = length === null ? undefined : Math.min(length, most - start);
    return (buffers: readonly ArrayBufferLike[]) => new View(buffers[buffer] as ArrayBufferLike, start * width, count);
  });

const leaf = fc.oneof(
  { weight: 4, arbitrary: view },
  fc
    .oneof(fc.string(), fc.double(), fc.bigInt(), fc.constantFrom(undefined, null, true), fc.date())
    .map((value) => () => value as unknown),
  fc.nat(3).map((buffer) => (buffers: readonly ArrayBufferLike[]) => buffers[buffer] as unknown),
);

class Row {}

/** A new container, and how it takes the content of this number. */
interface Kind {
  make(): object;
  put(container: never, content: unknown, index: number): void;
}

const byKey = (container: object, content: unknown, index: number) => define(container, `k${index}`, content);
const byPush = (container: unknown[], content: unknown) => void container.push(content);

const KINDS: readonly Kind[] = [
  { make: () => ({}), put: byKey },
  { make: () => ({}), put: (container, content) => define(container, '__proto__', content) },
  { make: () => Object.create(null), put: byKey },
  { make: () => new Row(), put: byKey },
  { make: () => [], put: byPush },
  { make: () => Array(100).fill(0), put: byPush },
  { make: () => Array(3), put: (container, content, index) => define(container, 2 * index, content) },
  { make: () => [1], put: byKey },
  { make: () => new Map(), put: (container: Map<unknown, unknown>, content, index) => container.set(index, content) },
  { make: () => new Map(), put: (container: Map<unknown, unknown>, content, index) => container.set(content, index) },
  { make: () => new Set(), put: (container: Set<unknown>, content) => container.add(content) },
  { make: () => new RangeError('too far'), put: (container, content) => define(container, 'cause', content) },
];

function define(object: object, key: PropertyKey, value: unknown): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/**
 * Values of what structured clone takes, with views on four buffers, one of them shared and one resizable. Any two
 * things in a value may refer to the same one, and things to each other.
 */
export const cloneable: fc.Arbitrary<unknown> = fc
  .record({
    leaves: fc.array(leaf, { minLength: 1, maxLength: 6 }),
    containers: fc.array(
      fc.record({ kind: fc.constantFrom(...KINDS), contents: fc.array(fc.nat(11), { maxLength: 4 }) }),
      { minLength: 1, maxLength: 6 },
    ),
  })
  .map(({ leaves, containers }) => {
    const buffers = [
      new ArrayBuffer(BYTES),
      new ArrayBuffer(BYTES),
      new SharedArrayBuffer(BYTES),
      resizable(BYTES, 96),
    ];
    for (const buffer of buffers) new Uint8Array(buffer).set([...Array(BYTES).keys()]);
    const made = containers.map(({ kind }) => kind.make());
    const all = [...made, ...leaves.map((make) => make(buffers))];
    for (const [number, { kind, contents }] of containers.entries()) {
      for (const [index, content] of contents.entries()) {
        kind.put(made[number] as never, all[content % all.length], index);
      }
    }
    return all[0];
  });

/** Returns the objects that structured clone finds in a value; not the buffers of views, unless they are in it, too. */
export function objectsOf(value: unknown, found = new Set<object>()): ReadonlySet<object> {
  if (typeof value !== 'object' || value === null || found.has(value)) return found;
  found.add(value);
  for (const content of contentsOf(value)) objectsOf(content, found);
  return found;
}

/** Whether two clones have the same contents, and the same objects in the same places. */
export function areAlike(left: unknown, right: unknown, pairs = new Map<object, object>()): boolean {
  if (typeof left !== 'object' || left === null || typeof right !== 'object' || right === null) {
    return Object.is(left, right);
  }
  if (pairs.has(left) || [...pairs.values()].includes(right)) return pairs.get(left) === right;
  pairs.set(left, right);
  const [one, other] = [contentsOf(left), contentsOf(right)];
  return (
    Object.getPrototypeOf(left) === Object.getPrototypeOf(right) &&
    String(propertiesOf(left)) === String(propertiesOf(right)) &&
    one.length === other.length &&
    one.every((content, index) => areAlike(content, other[index], pairs))
  );
}

function contentsOf(object: object): unknown[] {
  if (ArrayBuffer.isView(object)) return [];
  if (object instanceof Map) return [...object].flat();
  if (object instanceof Set) return [...object];
  if (object instanceof Error) return [object.cause];
  return Object.values(object);
}

function propertiesOf(object: object): unknown[] {
  if (ArrayBuffer.isView(object)) return [...new Uint8Array(object.buffer, object.byteOffset, object.byteLength)];
  if (object instanceof Error) return [object.message, object.stack, Object.hasOwn(object, 'cause')];
  if (object instanceof Date) return [object.getTime()];
  if (object instanceof ArrayBuffer || object instanceof SharedArrayBuffer) return [...new Uint8Array(object)];
  return Array.isArray(object) ? [object.length, ...Object.keys(object)] : Object.keys(object);
}
